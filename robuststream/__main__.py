"""`python -m robuststream`, the same as `robuststream`."""

import sys

from robuststream.cli import main

if __name__ == "__main__":
    sys.exit(main())
