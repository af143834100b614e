"""`python -m pocketbert`: the same as the command `pocketbert`."""

from pocketbert.cli import main

if __name__ == "__main__":
    main()
