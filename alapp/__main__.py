"""`python -m alapp`."""

from alapp.cli import main

if __name__ == "__main__":
    main()
