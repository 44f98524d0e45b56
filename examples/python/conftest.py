"""Where the generated code is."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "generated"))
