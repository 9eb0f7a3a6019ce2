"""`python -m gateway`, the same as the command `gateway`."""

import sys

from gateway.cli.main import main as run


def main() -> None:
    sys.exit(run())


if __name__ == "__main__":
    main()
