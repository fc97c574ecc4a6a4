"""The demo itself, with real processes in network namespaces; and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rxnet.demo.main import check_machine
from rxnet.demo.record import HOME
from rxnet.errors import DeviceError

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]
LIMIT = 200.0


@pytest.fixture(autouse=True)
def _machine() -> None:
    try:
        check_machine()
    except DeviceError as error:
        pytest.skip(str(error))


class Demo:
    """One `rxnet demo`, as a process of its own."""

    def __init__(self, log: Path, *options: str) -> None:
        self._errors = open(log, "w+")  # noqa: SIM115
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rxnet.cli.main", "demo", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    @property
    def tag(self) -> str:
        return f"rxdemo-{self.process.pid}-"

    def finish(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, out

    def wait_for(self, text: str) -> None:
        """Wait until it has told this."""
        deadline = time.monotonic() + LIMIT
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"no {text!r} in {self.log.read_text()!r}"
            time.sleep(0.02)

    def left(self) -> list[str]:
        """What is there of it: namespaces, processes, files."""
        names = [name for name in netns() if name.startswith(self.tag)]
        directory = HOME / str(self.process.pid)
        found = [*names, *([str(directory)] if directory.exists() else [])]
        return found + [command for command in commands() if f"{directory}/" in command]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()
        clean()


def netns() -> list[str]:
    directory = Path("/run/netns")
    return [entry.name for entry in directory.iterdir()] if directory.exists() else []


def commands() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue


def clean() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rxnet.cli.main", "demo", "--clean"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[Demo] = []

    def begin(*options: str) -> Demo:
        started.append(Demo(tmp_path / f"{len(started)}.log", *options))
        return started[-1]

    yield begin
    for demo in started:
        demo.close()


def test_the_seeds_scenario(start: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path("/etc").iterdir()}
    demo = start("--json", "--peers", "3")
    code, out = demo.finish()
    told = demo.log.read_text()
    facts = json.loads(out)
    assert facts["failures"] == [], told
    assert (code, facts["passed"], facts["schema"], facts["hosts"]) == (0, True, 1, 3)
    assert [act["number"] for act in facts["acts"]] == [1, 2, 3, 4, 5, 6, 7]
    assert len(facts["pings"]) == 12, "each pair, each direction, both families"
    assert all(pair["answered"] == pair["sent"] > 0 and pair["median_ms"] > 0 for pair in facts["pings"])
    cut, back = facts["cut"], facts["recovery"]
    assert (cut["cancelled"], cut["cancelled_by"]) == (1, "NetworkWentDown")
    assert (cut["messages_while_down"], cut["offers_due_while_down"]) == (0, 0)
    assert cut["pings_sent_while_down"] > 100
    assert cut["pings_answered_while_down"] <= 2, "but for those under way when the link was cut"
    assert cut["peers_lost"] == 2
    assert (back["started"], back["started_by"]) == (3, "SignalConnected")
    peers = {peer["name"]: peer for peer in facts["peers"]}
    assert set(peers) == {"h2", "h3", "h4"}
    for name in ("h2", "h3"):
        assert peers[name]["connected_after"] > 0 and peers[name]["first_ping_after"] > 0
        assert peers[name]["path"]["local"].startswith(("10.77.0.11:", "[fd77::b]:"))
        assert not peers[name]["offer_cancelled"]
    assert peers["h4"]["silent"] and peers["h4"]["offer_cancelled"] and peers["h4"]["path"] is None
    assert facts["signal_outage"]["peers_lost"] == 0
    assert facts["signal_outage"]["started_by"] == "SignalConnected"
    assert facts["frozen"]["processes"] == 3
    assert [packets["host"] for packets in facts["packets"]] == ["h1", "h2", "h3"]
    assert all(packets["through_python"] == 0 for packets in facts["packets"]), facts["packets"]
    assert all(packets["tunnel_received"] > 100 for packets in facts["packets"])
    assert facts["events_missed"] == 0
    assert demo.left() == []
    assert {path: path.stat().st_mtime_ns for path in Path("/etc").iterdir()} == before


def test_kept_it_goes_on_until_it_is_cleaned_up(start: Any) -> None:
    demo = start("--json", "--keep", "--peers", "2")
    code, out = demo.finish()
    facts = json.loads(out)
    assert code == 0, facts["failures"]
    assert facts["kept"]["namespaces"] == [f"{demo.tag}{name}" for name in ("h1", "h2", "h3", "core")]
    for what in ("status of h1", "ping another host"):
        command = facts["kept"]["commands"][what] + (" -c 3" if "ping" in what else "")
        if "ping" in what and shutil.which("ping") is None:
            continue
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert (
        "1/2 Connected"
        in subprocess.run(
            facts["kept"]["commands"]["status of h1"],
            shell=True,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        ).stdout
    )
    done = clean()
    assert f"removed the demo of process {demo.process.pid}" in done.stdout
    assert demo.left() == []


def test_interrupted_it_leaves_nothing(start: Any) -> None:
    demo = start("--json", "--peers", "2")
    demo.wait_for("IPv6 pings answered")
    os.kill(demo.process.pid, signal.SIGINT)
    code, out = demo.finish()
    assert (code, out) == (130, "")
    assert demo.left() == []


def test_killed_its_traces_are_removed_by_the_next(start: Any) -> None:
    demo = start("--json", "--peers", "2")
    demo.wait_for("IPv6 pings answered")
    os.kill(demo.process.pid, signal.SIGKILL)
    demo.process.wait()
    assert len([name for name in demo.left() if name.startswith(demo.tag)]) == 4, "it had no chance to clean up"
    following = start("--json", "--peers", "2")
    following.wait_for("A control plane starts")
    assert f"removed what the killed demo of process {demo.process.pid} had left" in following.log.read_text()
    assert demo.left() == []
    os.kill(following.process.pid, signal.SIGTERM)
    assert following.finish()[0] == 130
    assert following.left() == []
