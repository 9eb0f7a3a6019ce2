"""`python -m loadtests bench|translate|engine|upstream|load|drill`."""

import sys


def main() -> int:
    """0: good; 1: a drill or a part failed; 2: used wrongly."""
    # Each imports its own: the engine is measured where the other verbs' packages may be missing, and the other way
    # round.
    if sys.argv[1:2] == ["engine"]:
        from loadtests.engine import program

        return program.main(sys.argv[2:])
    from loadtests import verbs

    return verbs.main()


if __name__ == "__main__":
    sys.exit(main())
