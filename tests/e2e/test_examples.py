"""The examples are run as their readers would run them."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from e2e_network import URL, EmbeddedPlane, Network, Process, until

pytestmark = pytest.mark.netns
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(net: Network, plane: EmbeddedPlane, name: str, host: str, *arguments: str) -> Process:
    where = net.hosts[host]
    variables = {
        "RXNET_MANAGEMENT_URL": URL,
        "RXNET_SETUP_KEY": plane.key,
        "RXNET_DIRECTORY": str(where.directory / "example"),
        "PYTHONUNBUFFERED": "1",
    }
    argv = (sys.executable, str(EXAMPLES / name), *arguments)
    process = Process(where.namespace, where.directory / name, *argv, env=variables)
    net.processes.append(process)
    return process


def test_examples_do_what_they_say(net: Network) -> None:
    plane = EmbeddedPlane(net)
    for name in ("a", "b", "c"):
        net.host(name)
    printing = example(net, plane, "print_events.py", "a")
    until("events are printed", lambda: "ManagementConnected" in printing.text)
    assert printing.text.splitlines()[0].split()[0] == "1", "the first event must be the first one"
    acting = example(net, plane, "act_on_connect.py", "b")
    until("a connected peer is told", lambda: "is here" in acting.text)
    name = acting.text.split(" is here")[0].split("\n")[-1].split(".")[0]
    finding = example(net, plane, "wait_for_peer.py", "c", name, "20")
    assert finding.wait(30) == 0, finding.text
    assert f"{name} answers at 100." in finding.text
    waiting = example(net, plane, "wait_for_peer.py", "c", "nobody", "3")
    assert waiting.wait(20) == 1
    assert "did not answer within 3 s" in waiting.text
    printing._process.send_signal(signal.SIGINT)
    assert printing.wait(10) == 0
    until("a lost peer is told", lambda: "is gone" in acting.text, 30)
    for process in (printing, acting, finding, waiting):
        assert "Traceback" not in process.text
