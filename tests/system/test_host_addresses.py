"""Addresses, MTU and routes on an interface, and the journal's undoing of interfaces, against a real kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rxy_namespaces import environment, host, missing, python, run

pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(missing()), reason=missing())]

_ASSIGN = """
import asyncio, json, sys
from ipaddress import ip_interface
from pathlib import Path
from rxnet.engine.effects import AssignAddresses
from rxnet.events import AddressesAssigned
from rxnet.model import LocalPeer
from rxnet.system.addresses import HostAddresses
from rxnet.system.undo import open_journal

async def main():
    name, directory, *steps = sys.argv[1:]
    journal = open_journal(Path(directory)) if directory else None
    driver = HostAddresses(journal, lambda: name)
    for step in steps:
        v4, v6, mtu = step.split(",")
        local = LocalPeer(ip_interface(v4), ip_interface(v6) if v6 else None, "", int(mtu))
        *refusals, end = [e async for e in driver.assign_addresses(AssignAddresses(1, local, 2))]
        told = [f"{e.what}: {e.reason}" for e in refusals]
        assert end == AddressesAssigned(1, 2, "; ".join(told))
        print(json.dumps(told))

asyncio.run(asyncio.wait_for(main(), 15))
"""
_CLEAN = """
import asyncio, sys
from pathlib import Path
from rxnet.system.undo import open_journal
with open_journal(Path(sys.argv[1])) as journal:
    for outcome in asyncio.run(asyncio.wait_for(journal.undo_all(), 15)):
        print(outcome.undone, outcome.text)
"""


@pytest.fixture
def name() -> Iterator[str]:
    """A host with an interface `wt0`, down."""
    with host() as name:
        run("ip link add wt0 type veth peer name veth9; ip link set veth9 up", name)
        yield name


def assign(name: str, *steps: str, interface: str = "wt0", directory: str = "") -> list[list[str]]:
    """Perform the effect once a step (`v4,v6,mtu`); what was refused in each."""
    return [json.loads(line) for line in python(name, _ASSIGN, interface, directory, *steps).splitlines()]


def addresses(name: str, interface: str = "wt0") -> set[str]:
    found: list[dict[str, Any]] = json.loads(run(f"ip -j addr show dev {interface}", name))
    infos = found[0]["addr_info"]
    return {f"{a['local']}/{a['prefixlen']}" for a in infos if not a["local"].startswith("fe80")}


def routes(name: str) -> set[str]:
    found = json.loads(run("ip -j route show dev wt0", name)) + json.loads(run("ip -6 -j route show dev wt0", name))
    return {route["dst"] for route in found if not route["dst"].startswith("fe80")}


def test_a_fresh_interface(name: str) -> None:
    run("sysctl -qw net.ipv6.conf.all.accept_dad=1 net.ipv6.conf.wt0.accept_dad=1", name)
    assert assign(name, "100.92.14.7/16,fd00:1::7/64,1280") == [[]]
    (link,) = json.loads(run("ip -j addr show dev wt0", name))
    assert link["mtu"] == 1280 and "UP" in link["flags"]
    assert addresses(name) == {"100.92.14.7/16", "fd00:1::7/64"}
    assert routes(name) == {"100.92.0.0/16", "fd00:1::/64"}
    (six,) = (a for a in link["addr_info"] if a["local"] == "fd00:1::7")
    assert "tentative" not in six  # usable at once, no duplicate address detection


@pytest.mark.parametrize("promote", [0, 1])
def test_only_the_difference_is_applied(name: str, promote: int) -> None:
    run(
        f"sysctl -qw net.ipv4.conf.all.promote_secondaries={promote} net.ipv4.conf.wt0.promote_secondaries={promote}",
        name,
    )
    assign(name, "100.92.14.7/16,fd00:1::7/64,1280")
    before = run("ip -6 addr show dev wt0 scope global", name)
    monitor = subprocess.Popen(
        ["ip", "netns", "exec", name, "ip", "monitor", "address"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        # Same network, other network, other prefix length; the IPv6 address stays.
        for step in ("100.92.20.9/16", "100.93.1.1/16", "100.93.1.1/24"):
            assert assign(name, f"{step},fd00:1::7/64,1280") == [[]]
            assert addresses(name) == {step, "fd00:1::7/64"}
            assert routes(name) == {
                ".".join([*step.split(".")[:2], "1.0/24" if "/24" in step else "0.0/16"]),
                "fd00:1::/64",
            }
        assert run("ip -6 addr show dev wt0 scope global", name) == before
    finally:
        monitor.terminate()
        assert monitor.stdout is not None
        output = monitor.stdout.read().decode()
        monitor.stdout.close()
        monitor.wait()
    assert "100.93.1.1" in output and "fd00:1::7" not in output


def test_nothing_to_do_is_nothing_done(name: str) -> None:
    assign(name, "100.92.14.7/16,fd00:1::7/64,1280")
    serial = run("ip -s -d addr show dev wt0 | grep -v -e RX -e TX -e '^ *[0-9 ]*$'", name)
    assert assign(name, "100.92.14.7/16,fd00:1::7/64,1280") == [[]]
    assert run("ip -s -d addr show dev wt0 | grep -v -e RX -e TX -e '^ *[0-9 ]*$'", name) == serial


def test_the_same_ipv6_address_with_another_prefix_length(name: str) -> None:
    assign(name, "100.92.14.7/16,fd00:1::7/64,1280")
    assert assign(name, "100.92.14.7/16,fd00:1::7/48,1280") == [[]]
    assert addresses(name) == {"100.92.14.7/16", "fd00:1::7/48"}
    assert assign(name, "100.92.14.7/16,,1280") == [[]]
    assert addresses(name) == {"100.92.14.7/16"} and routes(name) == {"100.92.0.0/16"}


def test_routes_that_others_removed_come_back(name: str) -> None:
    assign(name, "100.92.14.7/16,fd00:1::7/64,1280")
    run("ip route del 100.92.0.0/16 dev wt0; ip -6 route del fd00:1::/64 dev wt0", name)
    assert routes(name) == set()
    assert assign(name, "100.92.14.7/16,fd00:1::7/64,1280") == [[]]
    assert routes(name) == {"100.92.0.0/16", "fd00:1::/64"}
    assert assign(name, "100.99.1.1/24,fd00:2::7/64,1280") == [[]]
    assert routes(name) == {"100.99.1.0/24", "fd00:2::/64"}


def test_routes_of_ours_that_nobody_wants_any_more_go(name: str) -> None:
    assign(name, "100.92.14.7/16,,1280")
    run("ip route add 100.77.0.0/16 dev wt0 proto 157; ip route add 100.78.0.0/16 dev wt0 proto static", name)
    assert assign(name, "100.92.14.7/16,,1280") == [[]]
    assert routes(name) == {"100.92.0.0/16", "100.78.0.0/16"}


def test_what_is_refused_is_told_and_the_rest_is_done(name: str) -> None:
    run("sysctl -qw net.ipv6.conf.wt0.disable_ipv6=1", name)
    ((told,),) = assign(name, "100.92.14.7/16,fd00:1::7/64,1280")
    assert told.startswith("address fd00:1::7/64: IPv6 is disabled")
    assert addresses(name) == {"100.92.14.7/16"}
    ((told,),) = assign(name, "100.92.14.7/16,fd00:1::7/64,1000")
    assert "MTU of 1280" in told


def test_an_interface_that_is_gone(name: str) -> None:
    assert assign(name, "100.92.14.7/16,,1280", interface="wt9") == [["addresses: interface wt9 is gone"]]
    assert assign(name, "100.92.14.7/16,,1280", interface="") == [["addresses: no interface is open"]]


def test_without_the_right_to(name: str) -> None:
    done = subprocess.run(
        [
            *f"ip netns exec {name} setpriv --bounding-set=-net_admin --inh-caps=-net_admin".split(),
            sys.executable,
            "-c",
            _ASSIGN,
            "wt0",
            "",
            "100.92.14.7/16,,1280",
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert len(told) == 3 and all("CAP_NET_ADMIN" in line for line in told)


def test_the_ranges_of_other_interfaces(name: str) -> None:
    run(
        "ip link set e0 up; ip -6 addr add 2001:db8::7/64 dev e0; ip addr add 100.64.0.1/10 dev e0; ip link set wt0 up",
        name,
    )
    run("ip addr add 100.92.14.7/16 dev wt0", name)
    program = """
import asyncio
from ipaddress import ip_interface
from rxnet.model import LocalPeer
from rxnet.system.addresses import host_ranges
from rxnet.system.network_state import overlap
found = asyncio.run(host_ranges({"wt0"}))
print(sorted(str(network) + " " + name for name, network in found))
print(overlap(LocalPeer(ip_interface("100.92.14.7/16")), found))
"""
    ranges, told = python(name, program).splitlines()
    assert ranges == "['10.0.0.0/24 e0', '100.64.0.0/10 e0', '2001:db8::/64 e0']"
    assert told.startswith("the overlay's range 100.92.0.0/16 and 100.64.0.0/10 on e0 overlap")


# -- what the journal undoes -----------------------------------------------------------------------------------------


def test_addresses_on_an_interface_of_others_are_recorded_and_undone(name: str, tmp_path: Path) -> None:
    run("ip addr add 10.50.0.1/24 dev wt0", name)
    assert assign(name, "100.92.14.7/16,,1280", "100.93.0.1/16,fd00:1::7/64,1280", directory=str(tmp_path)) == [[], []]
    # Not ours: stays. Ours of before: gone.
    assert addresses(name) == {"10.50.0.1/24", "100.93.0.1/16", "fd00:1::7/64"}
    assert python(name, _CLEAN, str(tmp_path)).splitlines() == [
        "True address fd00:1::7/64 on wt0 removed",
        "True address 100.93.0.1/16 on wt0 removed",
    ]
    assert addresses(name) == {"10.50.0.1/24"}
    assert python(name, _CLEAN, str(tmp_path)) == ""


def test_addresses_on_our_own_interface_are_not_recorded(name: str, tmp_path: Path) -> None:
    record = (
        "import sys; from pathlib import Path; from rxnet.system.undo import open_journal\n"
        "open_journal(Path(sys.argv[1])).record(kind='userspace-wireguard', name='wt0')"
    )
    python(name, record, str(tmp_path))
    run("ip addr add 10.50.0.1/24 dev wt0", name)
    assert assign(name, "100.92.14.7/16,,1280", directory=str(tmp_path)) == [[]]
    assert addresses(name) == {"100.92.14.7/16"}  # what is on it is ours to remove
    assert (tmp_path / "changes.jsonl").read_text().count("\n") == 1


_LINK = """
import os, socket, sys
from pathlib import Path
from rxnet.namespaces import network_namespace
from rxnet.system.undo import open_journal
with open_journal(Path(sys.argv[1])) as journal:
    id = journal.record(kind="link", name=sys.argv[2], namespace=network_namespace())
    journal.update(id, index=socket.if_nametoindex(sys.argv[2]))
"""


def test_an_interface_is_deleted_only_if_it_is_the_one(name: str, tmp_path: Path) -> None:
    python(name, _LINK, str(tmp_path), "wt0")
    run("ip link del wt0; ip link add wt0 type veth peer name veth8", name)  # a namesake
    assert python(name, _CLEAN, str(tmp_path)) == "True interface wt0 was gone\n"
    assert "wt0" in run("ip -br link", name)
    python(name, _LINK, str(tmp_path), "wt0")
    assert python(name, _CLEAN, str(tmp_path)) == "True interface wt0 deleted\n"
    assert "wt0" not in run("ip -br link", name)


def test_another_network_namespace_is_not_touched(name: str, tmp_path: Path) -> None:
    python(name, _LINK, str(tmp_path), "wt0")
    with host() as other:
        answer = python(other, _CLEAN, str(tmp_path))
        assert answer.startswith("False not undone (it was made in the network namespace net:[")
    assert python(name, _CLEAN, str(tmp_path)) == "True interface wt0 deleted\n"


_PROGRAMS = [p for p in (os.environ.get("WIREGUARD_GO", ""), shutil.which("wireguard-go") or "") if p]


@pytest.mark.skipif(not _PROGRAMS or not os.path.exists("/dev/net/tun"), reason="needs wireguard-go and /dev/net/tun")
@pytest.mark.parametrize("told_its_number", [True, False])
def test_a_wireguard_program_left_by_a_crash_is_ended(tmp_path: Path, told_its_number: bool) -> None:
    crash = f"""
import os, signal, subprocess, sys
from pathlib import Path
from rxnet.namespaces import network_namespace
from rxnet.system.processes import start_time
from rxnet.system.undo import open_journal
directory, program, name = sys.argv[1:]
journal = open_journal(Path(directory))
id = journal.record(kind="userspace-wireguard", name=name, program=program, namespace=network_namespace())
env = {{**os.environ, "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1"}}
child = subprocess.Popen([program, "-f", name], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
if {told_its_number}:
    journal.update(id, pid=child.pid, started=start_time(child.pid))
os.kill(os.getpid(), signal.SIGKILL)
"""
    # Its control socket lies in the common /run.
    interface = f"rxy{os.getpid()}"
    with host() as name:
        with pytest.raises(RuntimeError, match="-9"):
            python(name, crash, str(tmp_path), _PROGRAMS[0], interface)
        socket = Path(f"/var/run/wireguard/{interface}.sock")
        limit = time.monotonic() + 10
        while not socket.exists() and time.monotonic() < limit:
            time.sleep(0.01)  # another program's start, which tells nobody
        assert interface in run("ip -br link", name)
        answer = python(name, _CLEAN, str(tmp_path))
        assert answer.startswith("True process ") and answer.endswith(f" of interface {interface} ended\n")
        assert interface not in run("ip -br link", name)
        assert not socket.exists()
