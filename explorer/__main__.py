"""``python -m explorer``: the command line."""

from explorer.cli.application import main

if __name__ == "__main__":
    main()
