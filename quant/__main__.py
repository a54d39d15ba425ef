"""Run with ``python -m quant``."""

import sys

from .cli import main

sys.exit(main())
