"""`python -m rasa`: the command line, for launchers that start a module (torchrun)."""

import sys

from rasa.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
