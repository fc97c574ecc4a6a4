"""Run the codec tests on the oldest protobuf runtime that setup.cfg admits.

    python proto/oldest_runtime.py [pytest arguments]       default: tests/wire

The development environment holds the newest runtime; this makes sure that the lower bound is not a wish.
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys

from generate import ROOT, environment

TOOLS = ("pytest>=8", "pytest-timeout", "hypothesis", "pynacl>=1.5", "loguru")


def oldest() -> str:
    """The lower bound of protobuf in setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for line in config["options"]["install_requires"].splitlines():
        found = re.match(r"protobuf\s*>=\s*([\d.]+)", line.strip())
        if found:
            return found[1]
    raise SystemExit("setup.cfg: install_requires has no line `protobuf >=X`")


def main() -> int:
    version = oldest()
    if version.count(".") == 1:
        version += ".0"  # `6.31` admits 6.31.0
    python = environment(f"protobuf=={version}", *TOOLS)
    arguments = sys.argv[1:] or ["tests/wire"]
    sys.stdout.write(f"protobuf {version}: {' '.join(arguments)}\n")
    sys.stdout.flush()
    paths = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([str(python), "-m", "pytest", "-q", *arguments], cwd=ROOT, env=paths, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
