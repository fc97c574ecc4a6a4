"""A virtual control plane: N real engines, simulated management, signal and network, one virtual time, one seed.

The same seed gives the same trace, byte for byte, in every process. After every step of every engine the invariants of
`rxnet.testing.invariants` are checked.

::

    plane = Plane(seed=7, loss=0.1)
    a, b = plane.add("a"), plane.add("b")
    plane.run(30.0)
    assert plane.connected(a, b)
"""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from ipaddress import IPv4Network
from typing import Final

from rxnet.model import PeerKey, RemotePeer
from rxnet.testing.host import PATH_SILENCE, Host, SimulatedAgent
from rxnet.testing.servers import Management, Signal
from rxnet.testing.virtual import VirtualScheduler

TRACE_LENGTH: Final = 200_000
"""Lines kept of a trace."""


class Plane:
    """Everything between the hosts.

    :param seed: of all chance: latencies, losses, each engine's entropy.
    :param latency: seconds, from and to, of one way between a host and a server or another host.
    :param loss: probability that signal loses a message.
    :param duplication: probability that it delivers one twice.
    :param part: peers in one part of a network map.
    """

    def __init__(
        self,
        seed: int,
        *,
        latency: tuple[float, float] = (0.005, 0.060),
        loss: float = 0.0,
        duplication: float = 0.0,
        part: int = 3,
    ) -> None:
        self.random = random.Random(seed)
        self.scheduler = VirtualScheduler()
        self.hosts: dict[PeerKey, Host] = {}
        self.part = part
        self.trace: list[str] = []
        self._latency = latency
        self.management = Management(self)
        self.signal = Signal(self, loss, duplication)

    # -- what a test does --------------------------------------------------------------------------------------------

    def add(self, name: str) -> Host:
        """Make a host and ask its engine to be up."""
        key = PeerKey(b64encode(sha256(name.encode()).digest()).decode())
        host = self.hosts[key] = Host(self, name, key, len(self.hosts))
        host.up()
        return host

    def run(self, seconds: float) -> None:
        """Let time pass.

        :raises AssertionError: when an engine breaks an invariant.
        """
        self.scheduler.advance(seconds)

    def connected(self, *hosts: Host) -> bool:
        """Whether these hosts (all, if none is named) have paths to each other that are right on both sides."""
        chosen = hosts or tuple(self.hosts.values())
        return not any(self.missing(*chosen))

    def missing(self, *hosts: Host) -> Iterator[str]:
        """Say which host has no path, or a wrong one, to which other."""
        chosen = hosts or tuple(self.hosts.values())
        for a in chosen:
            for b in chosen:
                if a is not b and (wrong := self._wrong(a, b)):
                    yield f"{a.name} to {b.name}: {wrong}"

    def _wrong(self, a: Host, b: Host) -> str:
        peer = a.state.peers.get(b.key)
        if peer is None:
            return "not in the map"
        if peer.path is None:
            return peer.reason
        told = a.device.get(b.key)
        if told is None or told.endpoint is None or told.endpoint.host != b.address:
            return f"the device was told {told}, the peer is at {b.address}"
        return ""

    def note(self, who: str, what: str) -> None:
        """Write a line of the trace."""
        if len(self.trace) < TRACE_LENGTH:
            self.trace.append(f"{self.scheduler.clock():.6f} {who} {what}")

    # -- what hosts and servers use ----------------------------------------------------------------------------------

    def later(self, call: Callable[[], object]) -> None:
        """Call something one latency from now."""
        self.scheduler.after(self.random.uniform(*self._latency), call)

    def entry(self, host: Host) -> RemotePeer:
        """A host as the network map lists it."""
        address = host.overlay.address.ip
        return RemotePeer(host.key, (IPv4Network(f"{address}/32"),), host.overlay.fqdn)

    # -- the network between agents ----------------------------------------------------------------------------------

    def try_pair(self, host: Host, peer: PeerKey) -> None:
        """Let two agents find each other, if they can at present."""
        agents = self._agents(host, peer)
        if agents is None or not self._finds(host, *agents):
            return
        # Two round trips: check and nomination.
        self.later(lambda: self.later(lambda: self._nominate(host, peer, *agents)))

    def _agents(self, host: Host, peer: PeerKey) -> tuple[Host, SimulatedAgent, SimulatedAgent] | None:
        """Both agents, if each holds the credentials of the other's present process."""
        other = self.hosts.get(peer)
        if other is None:
            return None
        ours, theirs = host.agents.get(peer), other.agents.get(host.key)
        if ours is None or theirs is None:
            return None
        # ICE checks prove user fragment and password, which are the same for all sessions of a process.
        if ours.remote_session not in other.sessions or theirs.remote_session not in host.sessions:
            return None
        return other, ours, theirs

    def _finds(self, host: Host, other: Host, ours: SimulatedAgent, theirs: SimulatedAgent) -> bool:
        """One side that knows where the other is suffices: the other learns it from the check."""
        if not host.link_up or not other.link_up:
            return False
        return other.address in ours.remote_addresses or host.address in theirs.remote_addresses

    def _nominate(self, host: Host, peer: PeerKey, other: Host, ours: SimulatedAgent, theirs: SimulatedAgent) -> None:
        if self._agents(host, peer) != (other, ours, theirs) or not self._finds(host, other, ours, theirs):
            return
        for side, agent, far in ((host, ours, other), (other, theirs, host)):
            if (agent.local, agent.remote) != (side.address, far.address):
                side.selected(agent, far)

    def reconsider(self, host: Host) -> None:
        """Something about a host changed: which of its paths still work, which agents may find each other now?"""
        for key in sorted(self.hosts):
            self._reconsider_pair(host, self.hosts[key])
            self._reconsider_pair(self.hosts[key], host)

    def _reconsider_pair(self, host: Host, other: Host) -> None:
        agent = host.agents.get(other.key)
        if agent is None:
            return
        if not agent.local:
            self.try_pair(host, other.key)
        elif self._answers(host, other, agent):
            if agent.timer is not None:
                agent.stop()
            if (agent.local, agent.remote) != (host.address, other.address):
                self.later(lambda: self._roam(host, other, agent))
        elif agent.timer is None:
            agent.timer = self.scheduler.after(PATH_SILENCE, lambda: host.lose(agent))

    def _answers(self, host: Host, other: Host, agent: SimulatedAgent) -> bool:
        """Whether a path gives an answer: both up, one of them where the other believes it, its agent alive."""
        found = self._agents(host, other.key)
        if found is None or found[1] is not agent or not host.link_up or not other.link_up:
            return False
        return agent.remote == other.address or found[2].remote == host.address

    def _roam(self, host: Host, other: Host, agent: SimulatedAgent) -> None:
        """The pair moves with the host that moved: the next check comes from, or goes to, another address."""
        if self._answers(host, other, agent) and (agent.local, agent.remote) != (host.address, other.address):
            host.selected(agent, other)
