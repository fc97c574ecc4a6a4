"""Lets these tests use the namespaces of `tests/wireguard`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "wireguard"))
