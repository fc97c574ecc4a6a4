"""What a user does with two hosts, against the embedded control plane and against NetBird's own server."""

from __future__ import annotations

import os
import signal
import stat
import uuid

import pytest
from e2e_network import EmbeddedPlane, Host, NetBirdPlane, Network, run, until

Plane = EmbeddedPlane | NetBirdPlane
LOGIN_REFUSED = 4


def pair(net: Network, plane: Plane) -> tuple[Host, Host]:
    a, b = net.host("a"), net.host("b")
    a.up(key=plane.key)
    b.up(key=plane.key)
    return a, b


def test_two_hosts_ping_each_other_directly_over_both_families(net: Network, plane: Plane) -> None:
    a, b = pair(net, plane)
    for one, other in ((a, b), (b, a)):
        v4, v6 = other.overlay()
        one.reaches(v4)
        one.reaches(v6)
    peer = a.status()["peers"]["details"][0]
    assert peer["status"] == "Connected"
    assert peer["connectionType"] == "P2P"
    assert peer["iceCandidateType"]["local"] == "host"


def test_a_server_that_was_restarted_is_found_again_and_tunnels_stay(net: Network, plane: Plane) -> None:
    a, b = pair(net, plane)
    v4, _ = b.overlay()
    a.reaches(v4)
    received = a.status()["peers"]["details"][0]["lastWireguardHandshake"]
    plane.restart()
    assert a.ping(v4), "the tunnel must not need the server"
    until("a is connected to the new server", lambda: a.status()["management"]["connected"], 30)
    until("b is connected to the new server", lambda: b.status()["signal"]["connected"], 30)
    c = net.host("c")
    c.up(key=plane.key)
    a.reaches(c.overlay()[0], 20)
    assert a.status()["peers"]["total"] == 2
    assert received <= a.status()["peers"]["details"][0]["lastWireguardHandshake"]


def test_a_deleted_peer_says_so_once_and_asks_no_more(net: Network, plane: Plane) -> None:
    a, b = pair(net, plane)
    v4, _ = b.overlay()
    a.reaches(v4)
    assert b.process is not None
    plane.delete_peer(v4)
    assert b.process.wait(30) == LOGIN_REFUSED
    told = [line for line in b.process.text.splitlines() if " ERROR " in line]
    assert len(told) == 1, b.process.text
    assert "deleted" in told[0]
    until("a has dropped the peer", lambda: a.status()["peers"]["total"] == 0)
    assert "wt0" not in run("ip", "-br", "link", namespace=b.namespace)


@pytest.mark.parametrize("kind", ["unknown", "expired", "spent"])
def test_a_key_that_does_not_count_ends_in_one_clear_line(net: Network, plane: Plane, kind: str) -> None:
    if kind == "spent":
        first = net.host("first")
        key = plane.spent_key()
        first.up(key=key)
        first.overlay()
    else:
        key = plane.expired_key() if kind == "expired" else str(uuid.uuid4())
    a = net.host("a")
    before = a.picture()
    process = a.up(key=key)
    assert process.wait(30) == LOGIN_REFUSED
    told = [line for line in process.text.splitlines() if "setup key" in line]
    assert len(told) == 1, process.text
    assert "Traceback" not in process.text
    assert key not in process.text
    assert a.picture() == before


def test_a_stopped_client_leaves_the_host_as_it_was_and_keeps_its_identity(net: Network, plane: Plane) -> None:
    a = net.host("a")
    before = a.picture()
    a.up(key=plane.key)
    address = a.overlay()
    assert a.picture() != before
    assert a.process is not None
    assert a.process.stop() == 0
    assert a.picture() == before
    again = a.up()  # without a key
    assert a.overlay() == address
    os.kill(again.pid, signal.SIGINT)
    assert again.wait() == 0
    assert a.picture() == before


def test_files_are_private_and_the_key_shows_nowhere(net: Network, plane: Plane) -> None:
    a = net.host("a")
    process = a.up("--log-level", "trace", key=plane.key)
    a.overlay()
    config = a.directory / "config"
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    files = [path for path in config.rglob("*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    private_key = next(path for path in files if "key" in path.name).read_text().strip()
    assert len(private_key) == 44
    for text in (process.text, run("ps", "-eo", "args"), a.rxnet("status", "--json", "--daemon-addr", _socket(a))):
        assert private_key not in text
        assert plane.key not in text


def _socket(host: Host) -> str:
    return f"unix://{host.directory}/rxnet.sock"
