"""Weather: random trouble for a `Plane`, from its seed, and the return of good weather."""

from __future__ import annotations

from typing import Final

from rxnet.testing.host import Host
from rxnet.testing.plane import Plane

TROUBLES: Final = (
    "lose network",
    "find network",
    "move",
    "crash",
    "down",
    "up",
    "drop signal",
    "drop management",
    "signal down",
    "signal back",
    "management down",
    "management back",
)


def storm(plane: Plane, seconds: float, troubles: int) -> None:
    """Let `troubles` troubles happen to hosts and servers at random times within `seconds`.

    :raises AssertionError: when an engine breaks an invariant.
    """
    chance = plane.random
    end = plane.scheduler.clock() + seconds
    times = sorted(chance.uniform(plane.scheduler.clock(), end) for _ in range(troubles))
    hosts = list(plane.hosts.values())
    for when in times:
        plane.scheduler.advance_to(when)
        trouble = chance.choice(TROUBLES)
        host = chance.choice(hosts)
        plane.note("weather", f"{trouble} ({host.name})")
        _trouble(plane, host, trouble)
    plane.scheduler.advance_to(end)


def _trouble(plane: Plane, host: Host, trouble: str) -> None:
    act = {
        "lose network": host.lose_network,
        "find network": host.find_network,
        "move": host.move,
        "crash": host.crash,
        "down": host.down,
        "up": host.up,
        "drop signal": plane.signal.drop_streams,
        "drop management": plane.management.drop_streams,
        "signal down": plane.signal.go_down,
        "signal back": plane.signal.come_back,
        "management down": plane.management.go_down,
        "management back": plane.management.come_back,
    }
    act[trouble]()


def calm(plane: Plane) -> None:
    """Mend everything: servers run, hosts have a network and are asked to be up, no message is lost."""
    plane.note("weather", "calm")
    plane.signal.come_back()
    plane.management.come_back()
    plane.signal.loss = plane.signal.duplication = 0.0
    for host in plane.hosts.values():
        host.find_network()
        host.up()
