"""`python -m agentdur.cli`."""

import sys

from agentdur.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
