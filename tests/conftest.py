"""Lets test files of every folder import the helpers that lie here, such as `given`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
