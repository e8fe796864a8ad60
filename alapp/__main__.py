"""`python -m alapp`."""

import sys

from alapp.console import exit_code


def main() -> None:
    """Run the command line, whose packages may not be installed."""
    from alapp.cli import main

    main()


if __name__ == "__main__":
    sys.exit(exit_code(main))
