"""``python -m gobo_rtl``."""

import sys

from .cli import main

sys.exit(main())
