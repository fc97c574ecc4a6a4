"""The signal driver with NetBird's real server (env RXNET_NB_SERVER), in a network namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import netbird_scenarios
import pytest

pytestmark = [pytest.mark.netbird, pytest.mark.netns, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join((str(ROOT), str(ROOT / "tests")))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of each scenario; all run once, one after the other, against one server."""
    server = os.environ.get("RXNET_NB_SERVER", "")
    if not server:
        pytest.skip("RXNET_NB_SERVER does not name NetBird's combined server")
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs root, unshare and ip for a network namespace")
    directory = tmp_path_factory.mktemp("netbird")
    program = [sys.executable, netbird_scenarios.__file__, str(Path(server).absolute()), str(directory)]
    done = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--kill-child", *program],
        env={**os.environ, "PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    print(done.stderr)
    log = directory / "server.log"
    assert done.returncode == 0, f"{done.stderr}\n{log.read_text()[-3000:] if log.exists() else 'no server.log'}"
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("scenario", netbird_scenarios.SCENARIOS)
def test_with_netbirds_server(scenario: str, outcome: dict[str, str]) -> None:
    assert outcome[scenario] == ""
