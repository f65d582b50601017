"""`python -m runtime.cli` is `cim`."""

import sys

from . import main

sys.exit(main())
