"""Makes the shared table of operator cases importable from the tests of both targets."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
