"""What a host does when things go wrong around it: crashes, collisions, a network that is gone."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from e2e_network import EmbeddedPlane, Host, Network, run, until

pytestmark = pytest.mark.netns

TAKEN = 6
SILENT = 20
"""Peers of the map that never answer."""
GRPC_THREADS = ("grpc", "event_engine", "lifeguard", "default-executo", "resolver-execut", "timer_manager")


@pytest.fixture
def embedded(net: Network) -> EmbeddedPlane:
    return EmbeddedPlane(net)


def events(host: Host) -> list[dict[str, object]]:
    """What `up --json` has told so far."""
    assert host.process is not None
    lines = host.process.text.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def names(host: Host) -> list[object]:
    return [event["event"] for event in events(host)]


def test_cleanup_removes_what_a_killed_run_left(net: Network, embedded: EmbeddedPlane) -> None:
    a = net.host("a")
    before = a.picture()
    process = a.up(key=embedded.key)
    address = a.overlay()
    # The interface's own program is orphaned on purpose: a kill must not depend on who dies first.
    process.kill()
    a.rxnet("cleanup", "--config-dir", str(a.directory / "config"))
    until("the host is as before", lambda: a.picture() == before, 5)
    assert not [line for line in run("ip", "netns", "pids", a.namespace).splitlines() if line]
    a.up()
    assert a.overlay() == address


def test_a_killed_run_is_cleaned_up_by_the_next_one(net: Network, embedded: EmbeddedPlane) -> None:
    a, b = net.host("a"), net.host("b")
    b.up(key=embedded.key)
    process = a.up(key=embedded.key)
    v4, _ = b.overlay()
    a.reaches(v4)
    process.kill()
    a.up()
    a.reaches(v4, 20)
    assert run("ip", "-br", "link", namespace=a.namespace).count("wt") == 1


def test_a_second_client_says_what_is_taken(net: Network, embedded: EmbeddedPlane) -> None:
    a = net.host("a")
    a.up(key=embedded.key)
    a.overlay()
    same = a.rxnet_result(*a.up_arguments())
    assert same.returncode == TAKEN
    assert len(same.stderr.strip().splitlines()) == 1, same.stderr
    assert "Traceback" not in same.stderr


def test_a_taken_port_is_said_and_another_one_used(net: Network, embedded: EmbeddedPlane) -> None:
    a, b = net.host("a"), net.host("b")
    squatter = (
        "import socket, time\n"
        "held = [socket.socket(f, socket.SOCK_DGRAM) for f in (socket.AF_INET, socket.AF_INET6)]\n"
        "held[1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)\n"
        "held[0].bind(('', 51820)); held[1].bind(('', 51820))\n"
        "print('held', flush=True); time.sleep(600)\n"
    )
    from e2e_network import Process, sys

    holder = Process(a.namespace, a.directory / "squatter", sys.executable, "-c", squatter)
    net.processes.append(holder)
    until("the port is held", lambda: "held" in holder.text)
    a.up(key=embedded.key)
    b.up(key=embedded.key)
    a.reaches(b.overlay()[0])
    assert a.status()["wireguardPort"] != 51820
    assert a.process is not None
    assert "51820" in a.process.text


def test_no_offers_and_no_wake_ups_for_peers_while_the_network_is_down(net: Network, embedded: EmbeddedPlane) -> None:
    a, b = net.host("a"), net.host("b")
    embedded.register(SILENT)
    b.up(key=embedded.key)
    a.up("--json", key=embedded.key)
    a.reaches(b.overlay()[0])
    assert names(a).count("PeerAdded") == SILENT + 1
    assert a.process is not None
    net.carrier(a, "down")
    until("the offers are cancelled", lambda: "OffersCancelled" in names(a), 5)
    # The path to b is given up some seconds later; from then on nothing is pending at all.
    until("b is gone", lambda: "PeerDisconnected" in names(a), 20)
    told, switches = len(events(a)), context_switches(a.process.pid)
    pause = 10.0
    time.sleep(pause)
    assert events(a)[told:] == []
    # It sleeps: a timer for each peer would be more than this, even one that fires every ten seconds and tells nobody.
    assert (context_switches(a.process.pid) - switches) / pause < 1
    net.carrier(a, "up")
    until("offers are started again", lambda: "OffersStarted" in names(a)[told:], 10)
    a.reaches(b.overlay()[0])
    after = [event for event in events(a)[told:] if event["event"] == "OffersStarted"]
    assert len(after) == 1


def test_signal_lost_and_found_while_tunnels_carry_packets(net: Network, embedded: EmbeddedPlane) -> None:
    a, b = net.host("a"), net.host("b")
    a.up("--json", key=embedded.key)
    b.up(key=embedded.key)
    v4, _ = b.overlay()
    a.reaches(v4)
    embedded.process.kill()
    until("signal is lost", lambda: "SignalDisconnected" in names(a), 20)
    assert a.ping(v4, 5)
    embedded.start()
    until("signal is back", lambda: names(a).count("SignalConnected") >= 2, 30)
    assert a.ping(v4, 5)
    assert "PeerDisconnected" not in names(a)


def test_down_stops_it_and_status_then_says_so(net: Network, embedded: EmbeddedPlane) -> None:
    a = net.host("a")
    before = a.picture()
    process = a.up(key=embedded.key)
    a.overlay()
    socket = f"unix://{a.directory}/rxnet.sock"
    a.rxnet("down", "--daemon-addr", socket)
    assert process.wait() == 0
    assert a.picture() == before
    gone = a.rxnet_result("status", "--daemon-addr", socket)
    assert gone.returncode == 3
    assert len(gone.stderr.strip().splitlines()) == 1


def test_a_second_interrupt_ends_it_at_once_and_leaves_nothing(net: Network, embedded: EmbeddedPlane) -> None:
    a = net.host("a")
    before = a.picture()
    process = a.up(key=embedded.key)
    a.overlay()
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    process.wait()
    until("the host is as before", lambda: a.picture() == before, 5)


def context_switches(pid: int) -> int:
    """Of all threads of a process but gRPC's own: those wake up several times a second, with or without peers."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith(GRPC_THREADS):
            continue
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total
