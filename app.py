"""Entry point of the app, on a workstation and on Hugging Face Spaces: `python app.py --help`."""

# Every Python must be able to read this file, to say that it is too old: no f-strings, no annotations.
import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.stderr.write("This app needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". ")
    sys.stderr.write("Start it with the Python of its own environment, as the README says.\n")
    sys.exit(2)

from alapp.console import exit_code


def main():
    """Parse the flags and serve."""
    import argparse
    from pathlib import Path

    parser = argparse.ArgumentParser(description="Active-learning segmentation of microscopy images, in the browser.")
    add = parser.add_argument
    add("--state", type=Path, help="folder of the database and the arrays (default: the folder state beside app.py)")
    add("--host", default="127.0.0.1", help="address to listen on (default: only this computer)")
    add("--port", type=int, help="port, 7860 by default; the next free one if it is taken")
    add("--no-browser", action="store_true", help="do not open the page in the browser")
    add("--allow-host", action="append", default=[], help="another name of this computer")
    flags = parser.parse_args()
    from alapp.cli_state import wanted
    from alapp.ui.launch import run

    run(wanted(flags.state), flags.host, flags.port, not flags.no_browser, tuple(flags.allow_host))


if __name__ == "__main__":
    sys.exit(exit_code(main))
