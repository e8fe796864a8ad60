"""Entry point of the app, on a workstation and on Hugging Face Spaces: `python app.py --help`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from alapp.errors import AlappError


def main() -> int:
    """Parse the flags and serve. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Active-learning segmentation of microscopy images, in the browser.")
    parser.add_argument("--state", type=Path, default=Path("state"), help="folder of the database and the arrays")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: only this computer)")
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    parser.add_argument("--port", type=int, default=port, help="port; the next free one if it is taken")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in the browser")
    parser.add_argument("--allow-host", action="append", default=[], help="another name of this computer")
    flags = parser.parse_args()
    from alapp.ui.launch import run

    try:
        run(flags.state, flags.host, flags.port, not flags.no_browser, tuple(flags.allow_host))
    except AlappError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
