"""The stage: who plays, what they have said so far, and waiting for what shall happen."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from rxnet.demo.facts import Act, Facts
from rxnet.demo.lan import Lan, Place
from rxnet.demo.marbles import Timeline
from rxnet.demo.processes import Host, Program, start_plane
from rxnet.demo.screen import Screen
from rxnet.demo.trace import Seen
from rxnet.errors import RxnetError

_TICK: Final = 0.1
"""Seconds between two pictures."""
_LOOK: Final = 0.02
"""Seconds between two looks at what the hosts said."""


class Stuck(RxnetError):
    """Something that should happen did not; the story cannot go on."""


class Stage:
    """The hosts of one run. `facts` fills as the acts go by; `timeline` is the picture of what h1 sees.

    The last host of the LAN is the silent one.
    """

    def __init__(self, lan: Lan, directory: Path, screen: Screen) -> None:
        self.lan = lan
        self.directory = directory
        self.screen = screen
        self.facts = Facts(len(lan.hosts) - 1)
        self.silent_name = lan.hosts[-1].name
        self.timeline = Timeline({self.silent_name: "frozen"})
        self.start = time.time()
        self.plane: Program | None = None
        self.hosts: list[Host] = []
        """All that were started, the silent one too."""

    # -- starting; both block, and are meant for a thread. What is started is known at once, so that it is ended too if
    # -- the one who waits for the thread is interrupted.

    def start_plane(self) -> Program:
        """Start the control plane.

        :raises DeviceError: if it cannot be started.
        """
        self.plane = start_plane(self.lan, self.directory)
        return self.plane

    def start_host(self, place: Place) -> None:
        """Start a host.

        :raises DeviceError: if it cannot be started.
        """
        self.hosts.append(Host(place, self.directory))

    # -- who is who

    @property
    def programs(self) -> list[Program]:
        """All processes, in the order in which to end them."""
        return [*self.hosts, *([self.plane] if self.plane else [])]

    @property
    def live(self) -> list[Host]:
        """The hosts that talk to each other, h1 first."""
        return sorted((h for h in self.hosts if h.name != self.silent_name), key=lambda host: host.place.number)

    @property
    def h1(self) -> Host:
        """The one whose link is cut."""
        return next(host for host in self.hosts if host.place.number == 1)

    @property
    def others(self) -> list[Host]:
        """The live hosts but h1."""
        return [host for host in self.live if host.place.number != 1]

    def key(self, name: str) -> str:
        """The public key of a host, as the others' network maps have it; empty while none has."""
        for host in self.hosts:
            for event in host.trace.find("PeerAdded"):
                if str(event.data.get("fqdn", "")).partition(".")[0] == name:
                    return event.peer or ""
        return ""

    def overlay(self, host: Host) -> dict[int, str]:
        """A host's addresses inside the tunnels, by family; empty until it is logged in."""
        event = host.trace.first("LoggedIn")
        local = event.data["local"] if event is not None else {}
        found = {4: local.get("address"), 6: local.get("address_v6")}
        return {family: str(text).partition("/")[0] for family, text in found.items() if text}

    def all_connected(self) -> bool:
        """Whether each live host has a path to each other one."""
        if len(self.live) < 2:
            return True
        keys = {host.name: self.key(host.name) for host in self.live}
        if "" in keys.values():
            return False
        return all(
            {key for name, key in keys.items() if name != host.name} <= host.trace.connected() for host in self.live
        )

    def cause(self, event: Seen) -> str:
        """The name of the event that led to one of h1's; empty if that was not told."""
        caused = self.h1.trace.caused(event)
        return caused.name if caused is not None else ""

    # -- telling and waiting

    def act(self, title: str) -> float:
        """Announce the next act; returns when it began."""
        now = time.time()
        number = len(self.facts.acts) + 1
        self.facts.acts.append(Act(number, now - self.start, title))
        self.timeline.acts.append((now, number))
        self.screen.act(number, title)
        return now

    def look(self) -> None:
        """Take in what the hosts have said."""
        for host in self.hosts:
            for event in host.news():
                if host.place.number == 1:
                    self.timeline.feed(event)

    async def watch(self) -> None:
        """Keep the picture moving until cancelled."""
        while True:
            self.look()
            self.screen.show(self.timeline, self.start, time.time())
            await asyncio.sleep(_TICK)

    async def until(self, condition: Callable[[], Any], limit: float, what: str) -> None:
        """Wait for a condition.

        :raises Stuck: if it does not come true in time, or a program ends meanwhile.
        """
        deadline = time.monotonic() + limit
        while True:
            self.look()
            if condition():
                return
            for program in self.programs:
                if (code := program.process.poll()) is not None:
                    raise Stuck(f"{program.name} ended with code {code}: {program.last_words() or 'it said nothing'}")
            if time.monotonic() > deadline:
                raise Stuck(f"{what} did not happen within {limit:.0f} s")
            await asyncio.sleep(_LOOK)

    async def perhaps(self, condition: Callable[[], Any], limit: float) -> None:
        """Wait for a condition, but not longer than the limit; what is missing then is judged by the facts."""
        with contextlib.suppress(Stuck):
            await self.until(condition, limit, "")


def plural(number: int, noun: str) -> str:
    """A number of things: `1 offer`, `2 offers`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def spread(values: Iterable[float]) -> str:
    """From the least to the greatest of some times in seconds, for people."""
    found = sorted(values)
    if not found:
        return "n/a"
    if found[-1] < 0.95:
        low, high = f"{found[0] * 1000:.0f}", f"{found[-1] * 1000:.0f} ms"
    else:
        low, high = f"{found[0]:.2f}", f"{found[-1]:.2f} s"
    return high if high.startswith(f"{low} ") else f"{low} to {high}"
