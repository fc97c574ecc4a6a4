"""The monitor against a real kernel: exactly the events that a change is worth, and none for noise.

"No event" is proven by the event that follows: the next one is that of a later change.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
from rxy_namespaces import Watcher, host, missing, run

from rxnet.engine.effects import WatchNetwork
from rxnet.system.monitor import NetworkMonitor, _Limit

pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture
def name() -> Iterator[str]:
    with host() as name:
        yield name


@pytest.fixture
def up(name: str) -> Iterator[tuple[str, Watcher]]:
    """A host with network and default route, and a watcher that said so."""
    run("ip link set e0 up; ip route add default via 10.0.0.1", name)
    with Watcher(name) as watcher:
        assert watcher.next() == {
            "event": "NetworkCameUp",
            "addresses": ["e0 10.0.0.7"],
            "routes": [["e0", "10.0.0.1", 0]],
        }
        yield name, watcher


def sentinel(name: str, watcher: Watcher) -> None:
    """Prove that nothing was reported: the next event is that of this change."""
    run("ip addr add 10.66.66.66/32 dev e0", name)
    assert watcher.next().get("differences") == ["address 10.66.66.66 on e0 new"]


def test_starts_down_and_comes_up(name: str) -> None:
    with Watcher(name) as watcher:
        assert watcher.next() == {"event": "NetworkWentDown", "addresses": [], "routes": []}
        run("ip link set e0 up", name)
        assert watcher.next() == {"event": "NetworkCameUp", "addresses": ["e0 10.0.0.7"], "routes": []}
        sentinel(name, watcher)


def test_while_down_nothing_but_coming_up_is_told(name: str) -> None:
    with Watcher(name) as watcher:
        watcher.next()
        run("ip rule add pref 100 fwmark 0x7 lookup 100", name)
        run("ip addr add 10.4.0.7/24 dev e0", name)
        run("ip link set e0 up", name)
        assert watcher.next()["addresses"] == ["e0 10.0.0.7", "e0 10.4.0.7"]
        sentinel(name, watcher)


def test_link_down_and_up(up: tuple[str, Watcher]) -> None:
    name, watcher = up
    run("ip link set e0 down", name)
    assert watcher.next() == {"event": "NetworkWentDown", "addresses": [], "routes": []}
    run("ip link set e0 up", name)
    # The kernel took the default route with the link and does not bring it back: no message told so.
    assert watcher.next() == {"event": "NetworkCameUp", "addresses": ["e0 10.0.0.7"], "routes": []}
    sentinel(name, watcher)


def test_carrier_lost_and_back(up: tuple[str, Watcher]) -> None:
    name, watcher = up
    run("ip link set p0 down", name)
    assert watcher.next()["event"] == "NetworkWentDown"
    run("ip link set p0 up", name)
    assert watcher.next() == {
        "event": "NetworkCameUp",
        "addresses": ["e0 10.0.0.7"],
        "routes": [["e0", "10.0.0.1", 0]],
    }
    sentinel(name, watcher)


def test_a_second_interface_is_a_change_not_an_outage(up: tuple[str, Watcher]) -> None:
    name, watcher = up
    run("ip link add e1 type veth peer name p1; ip link set p1 up; ip addr add 10.1.0.7/24 dev e1", name)
    run("ip link set e1 up", name)
    assert watcher.next().get("differences") == ["address 10.1.0.7 on e1 new"]
    run("ip link set p0 down", name)
    assert watcher.next().get("differences") == [
        "address 10.0.0.7 on e0 gone",
        "default route via 10.0.0.1 on e0 gone",
    ]
    run("ip link del e1", name)
    assert watcher.next()["event"] == "NetworkWentDown"


def test_address_change(up: tuple[str, Watcher]) -> None:
    name, watcher = up
    run("ip addr add 10.9.0.7/24 dev e0", name)
    assert watcher.next().get("differences") == ["address 10.9.0.7 on e0 new"]
    run("ip addr del 10.9.0.7/24 dev e0", name)
    assert watcher.next().get("differences") == ["address 10.9.0.7 on e0 gone"]
    run("ip -6 addr add 2001:db8::7/64 dev e0", name)
    assert watcher.next().get("differences") == ["address 2001:db8::7 on e0 new"]
    sentinel(name, watcher)


def test_tentative_addresses_wait_until_they_are_usable(up: tuple[str, Watcher]) -> None:
    name, watcher = up
    run("sysctl -qw net.ipv6.conf.e0.accept_dad=1 net.ipv6.conf.e0.dad_transmits=1", name)
    run("ip -6 addr add 2001:db8::7/64 dev e0", name)
    run("ip addr add 10.8.0.7/24 dev e0", name)
    assert watcher.next()["addresses"] == ["e0 10.0.0.7", "e0 10.8.0.7"]
    assert watcher.next().get("differences") == ["address 2001:db8::7 on e0 new"]
    run("ip -6 addr change 2001:db8::7/64 dev e0 preferred_lft 0", name)
    assert watcher.next().get("differences") == ["address 2001:db8::7 on e0 gone"]


def test_default_routes(up: tuple[str, Watcher]) -> None:
    name, watcher = up
    run("ip route replace default via 10.0.0.2", name)
    assert watcher.next().get("differences") == [
        "default route via 10.0.0.1 on e0 gone",
        "default route via 10.0.0.2 on e0 new",
    ]
    run("ip -6 addr add 2001:db8::7/64 dev e0", name)
    watcher.next()
    run("ip -6 route add default via fe80::1 dev e0 metric 512", name)
    changed = watcher.next()
    assert changed.get("differences") == ["default route via fe80::1 on e0 new"]
    assert changed["routes"] == [["e0", "10.0.0.2", 0], ["e0", "fe80::1", 512]]
    run("ip route del default", name)
    assert watcher.next().get("differences") == ["default route via 10.0.0.2 on e0 gone"]
    sentinel(name, watcher)


def test_rules(up: tuple[str, Watcher]) -> None:
    name, watcher = up
    run("ip rule add pref 100 fwmark 0x7 lookup 100", name)
    assert watcher.next().get("differences") == ["rule inet 100: from all fwmark 0x7 lookup 100 new"]
    run("ip -6 rule add pref 101 not fwmark 0x7 lookup 100 suppress_prefixlength 0", name)
    text = "rule inet6 101: not from all fwmark 0x7 suppress_prefixlength 0 fwmask 0xffffffff lookup 100 new"
    told = watcher.next().get("differences")
    assert told == [text] or told == [text.replace(" fwmask 0xffffffff", "")]
    run("ip rule add pref 102 iif e0 lookup 100; ip rule add pref 103 from 10.244.0.0/16 lookup 100", name)
    run("ip rule add pref 104 lookup 100 protocol 157", name)
    sentinel(name, watcher)


NOISE = {
    "attributes of the link": "ip link set e0 mtu 1400; ip link set e0 alias office; ip link set e0 promisc on",
    "lifetimes": "for n in $(seq 50); do ip -6 addr change fd00::7/64 dev e0 valid_lft 9$n preferred_lft 8$n; done",
    "link-local": "ip -6 addr add fe80::77/64 dev e0; ip -6 addr del fe80::77/64 dev e0",
    "neighbours": "ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev e0; ip neigh del 10.0.0.9 dev e0",
    "other routes": "ip route add 10.7.0.0/16 via 10.0.0.1; ip route add default via 10.0.0.1 table 77",
    "unreachable default": "ip -6 route add unreachable default metric 9; ip -6 route del unreachable default metric 9",
    "our own interface": "ip link add mesh0 type veth peer name veth9; ip link set veth9 up;"
    "ip link set mesh0 up; ip addr add 100.92.14.7/16 dev mesh0;"
    "ip -6 addr add fd77::7/64 dev mesh0; ip route add default dev mesh0 metric 5; ip link set mesh0 down;"
    "ip link set mesh0 up; ip link del mesh0",
    "containers": "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up;"
    "ip link add veth1 type veth peer name c1; ip link set veth1 master docker0 up;"
    "ip link set veth1 nomaster; ip link del veth1; ip link del docker0",
    "another overlay": "ip tuntap add dev vpn0 mode tun; ip addr add 10.8.0.1/24 dev vpn0; ip link set vpn0 up;"
    "ip link del vpn0",
    "ports of a bridge": "ip link add lan7 type bridge; ip link set e0 master lan7; ip link set e0 nomaster;"
    "ip link del lan7",
}


@pytest.mark.parametrize("what", NOISE)
def test_noise(name: str, what: str) -> None:
    run("ip link set e0 up; ip -6 addr add fd00::7/64 dev e0; ip route add default via 10.0.0.1", name)
    with Watcher(name) as watcher:
        assert watcher.next()["addresses"] == ["e0 10.0.0.7", "e0 fd00::7"]
        run(NOISE[what], name)
        sentinel(name, watcher)


def test_a_full_routing_table_does_not_even_wake_us(up: tuple[str, Watcher]) -> None:
    name, watcher = up
    run("ip link set e0 alias ready", name)
    sentinel(name, watcher)
    wakeups, seconds = watcher.context_switches(), watcher.processor_time()
    routes = "for n in $(seq 0 1999); do echo route add 172.16.$((n / 250)).$((n % 250))/32 via 10.0.0.1; done"
    run(f"({routes}) | ip -batch -; ip route flush via 10.0.0.1 root 172.16.0.0/12", name)
    # A few for what the last event left to do; unfiltered it would be about as many as routes.
    assert watcher.context_switches() - wakeups < 10
    assert watcher.processor_time() - seconds < 0.05
    run("ip addr add 10.9.0.7/24 dev e0", name)
    assert watcher.next().get("differences") == ["address 10.9.0.7 on e0 new"]


def test_an_overrun_is_told_and_made_good(name: str) -> None:
    run("ip link set e0 up; ip link add mesh0 type veth peer name veth9; ip link set mesh0 up", name)
    with Watcher(name, receive_buffer=1) as watcher:
        watcher.next()
        os.kill(watcher.pid, signal.SIGSTOP)
        # Noise of our own interface fills the buffer; what matters finds no room in it.
        flood = "for n in $(seq 1 200); do echo addr add 10.5.0.$n/32 dev mesh0; done"
        run(f"({flood}) | ip -batch -; ip addr add 10.5.1.1/32 dev e0; ip addr del 10.0.0.7/24 dev e0", name)
        os.kill(watcher.pid, signal.SIGCONT)
        assert watcher.next() == {"event": "NetlinkOverran"}
        assert watcher.next().get("differences") == ["address 10.0.0.7 on e0 gone", "address 10.5.1.1 on e0 new"]
        run("ip addr add 10.66.0.1/32 dev e0", name)
        assert watcher.next().get("differences") == ["address 10.66.0.1 on e0 new"]


def test_a_flood_is_bounded_and_its_end_is_seen(up: tuple[str, Watcher]) -> None:
    name, watcher = up
    flood = "for n in $(seq 1 250); do echo addr add 10.5.0.$n/32 dev e0; echo addr del 10.5.0.$n/32 dev e0; done"
    run(f"for n in 1 2 3 4; do ({flood}) | ip -batch -; done; ip addr add 10.5.1.1/32 dev e0", name)
    events = 1
    while (event := watcher.next())["addresses"] != ["e0 10.0.0.7", "e0 10.5.1.1"]:
        assert event["event"] == "NetworkChanged"
        events += 1
    assert events < 200  # of 2,001 changes; ten at once and twenty a second are let through
    sentinel(name, watcher)


def test_readings_are_limited_to_a_burst_and_then_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def main() -> list[float]:
        limit, times = _Limit(20.0, lambda: now), []
        for _ in range(30):
            await limit.wait()
            times.append(now - 100.0)
        return times

    times = asyncio.run(main())
    assert times[9] == 0.0 and times[10:] == pytest.approx([0.05 * n for n in range(1, 21)])


@pytest.mark.parametrize("forget", [True, False])
def test_unresolved_neighbours_are_forgotten_when_the_carrier_returns(name: str, forget: bool) -> None:
    run("ip link set e0 up", name)
    with Watcher(name, forget_neighbours=forget) as watcher:
        watcher.next()
        run("ip link set p0 down", name)
        watcher.next()
        run("ip neigh replace 10.0.0.9 dev e0 nud failed", name)
        run("ip neigh replace 10.0.0.8 lladdr 02:00:00:00:00:08 dev e0 nud permanent", name)
        run("ip link set p0 up", name)
        assert watcher.next()["event"] == "NetworkCameUp"
        left = run("ip neigh show dev e0", name)
        assert ("10.0.0.9" in left) is not forget
        assert "10.0.0.8" in left


def test_cancelling_leaves_nothing_open() -> None:
    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            first = asyncio.Event()

            async def watch(first: asyncio.Event) -> None:
                async for _event in NetworkMonitor().watch_network(WatchNetwork()):
                    first.set()

            task = asyncio.create_task(watch(first))
            await asyncio.wait_for(first.wait(), 10)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())
