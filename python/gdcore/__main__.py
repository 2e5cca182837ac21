"""``python -m gdcore``: the command line."""

from gdcore.cli import main

if __name__ == "__main__":
    main()
