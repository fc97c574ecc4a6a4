"""NetBird's own server is the judge: all scenarios of real_management.py, in a network namespace of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_management import NAMES

SCRIPT = Path(__file__).with_name("real_management.py")
ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join((str(ROOT), str(ROOT / "tests")))

pytestmark = [pytest.mark.netbird, pytest.mark.netns, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str | None]]:
    program = os.environ.get("RXNET_NB_SERVER", "")
    if not os.access(program, os.X_OK):
        pytest.skip("RXNET_NB_SERVER does not name NetBird's combined server")
    if os.geteuid() != 0:
        pytest.skip("needs root for a network namespace")
    namespace = f"rxm-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", namespace], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"cannot make a network namespace: {made.stderr.strip()}")
    inside = ["ip", "netns", "exec", namespace]
    try:
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        directory = tmp_path_factory.mktemp("management") / "server"
        run = subprocess.run(
            [*inside, sys.executable, str(SCRIPT), program, str(directory)],
            capture_output=True,
            text=True,
            timeout=220,
            check=False,
            env=os.environ | {"PYTHONPATH": PATH},
        )
        found = {}
        for line in run.stdout.splitlines():
            verdict = json.loads(line)
            found[verdict["name"]] = verdict["problem"]
        if len(found) < len(NAMES):
            found["(script)"] = run.stderr[-3000:]
        yield found
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=False)


@pytest.mark.parametrize("name", NAMES)
def test_scenario(verdicts: dict[str, str | None], name: str) -> None:
    assert name in verdicts, verdicts.get("(script)")
    assert verdicts[name] is None, verdicts[name]
