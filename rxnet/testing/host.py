"""A simulated host: a real engine, and drivers that play against a `Plane` instead of a world."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING, Final

from rxnet.engine.effects import (
    AssignAddresses,
    GiveCandidates,
    KeepPath,
    Negotiate,
    OpenDevice,
    OpenManagement,
    OpenSignal,
    SendMessages,
    SetPeers,
    WatchNetwork,
)
from rxnet.engine.engine import EPICS, Engine
from rxnet.engine.inbox import Step
from rxnet.engine.state import State
from rxnet.events import (
    CandidatesGathered,
    DeviceOpened,
    DownRequested,
    NegotiationFailed,
    NetworkCameUp,
    NetworkChanged,
    NetworkWentDown,
    PathLost,
    PathSelected,
    UpRequested,
)
from rxnet.model import (
    Candidate,
    Endpoint,
    HostNetwork,
    LocalPeer,
    Path,
    PeerKey,
    RemotePeer,
    SessionId,
    WireGuardPeer,
)
from rxnet.testing.bench import done_at_once
from rxnet.testing.drivers import VirtualDrivers, Work
from rxnet.testing.invariants import broken_in_state, broken_in_work, broken_on_device

if TYPE_CHECKING:
    from reactivex import abc

    from rxnet.testing.plane import Plane

PORT: Final = 51820
NEGOTIATION: Final = 15.0
"""Seconds after which an agent gives up."""
PATH_SILENCE: Final = 6.0
"""Seconds without an answer after which a path is lost."""


@dataclass(eq=False, slots=True)
class SimulatedAgent:
    """An ICE agent of a host towards one peer."""

    peer: PeerKey
    generation: int
    remote_session: SessionId | None
    remote_addresses: set[str] = field(default_factory=set)
    local: str = ""
    """Our address and the peer's, as of the nomination; empty before."""
    remote: str = ""
    timer: abc.DisposableBase | None = None
    """The end of the negotiation, or of a path that nothing comes over."""

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.dispose()
            self.timer = None


class Host:
    """One participant: `engine`, what its device was told, its network; everything else is the plane's.

    A host lives through processes: `crash` ends one and starts the next, with another engine, other ICE credentials and
    an empty device, under the same key.
    """

    def __init__(self, plane: Plane, name: str, key: PeerKey, number: int) -> None:
        self.plane = plane
        self.name = name
        self.key = key
        self.number = number
        self.link_up = True
        self.moves = 0
        self.process = 0
        self.map_told: dict[PeerKey, RemotePeer] = {}
        """What this process' management driver passed on so far."""
        self.device: dict[PeerKey, WireGuardPeer] = {}
        self.agents: dict[PeerKey, SimulatedAgent] = {}
        self.sessions: set[SessionId] = set()
        """Session ids that this process named."""
        self._commands = 0
        self._start()

    def _start(self) -> None:
        self.process += 1
        self.map_told, self.device, self.agents, self.sessions = {}, {}, {}, set()
        scheduler = self.plane.scheduler
        generator = random.Random(self.plane.random.getrandbits(64))
        self.drivers = VirtualDrivers(
            scheduler.clock,
            {
                WatchNetwork: lambda work: work.report(self._network_report()),
                OpenManagement: lambda work: self.plane.management.open(self, work),
                OpenSignal: lambda work: self.plane.signal.open(self, work),
                SendMessages: lambda work: self.plane.signal.send(self, work),
                OpenDevice: self._open_device,
                AssignAddresses: done_at_once,
                SetPeers: self._set_peers,
                Negotiate: self._negotiate,
                GiveCandidates: self._give_candidates,
                KeepPath: self._keep_path,
            },
            self._ended,
            keep=200,
        )
        self.engine = Engine(
            self.key,
            self.drivers,
            scheduler=scheduler,
            clock=scheduler.clock,
            entropy=lambda: generator.getrandbits(64),
            epics=self.drivers.recording(EPICS),
        )
        self.engine.steps.subscribe(self._stepped)

    # -- what a test does --------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.engine.state

    @property
    def ufrag(self) -> str:
        """The user fragment of the present process."""
        return f"{self.name}{self.process:08d}"

    @property
    def address(self) -> str:
        """Where its packets come from at present."""
        return f"198.51.{self.number}.{self.moves % 250 + 1}"

    @property
    def overlay(self) -> LocalPeer:
        return LocalPeer(IPv4Interface(f"100.64.0.{self.number + 1}/16"), fqdn=f"{self.name}.example")

    def up(self) -> None:
        """Ask the engine to be up."""
        self._commands += 1
        self.engine.put(UpRequested(f"{self._commands}"))

    def down(self) -> None:
        """Ask the engine to be down."""
        self._commands += 1
        self.engine.put(DownRequested(f"{self._commands}"))

    def lose_network(self) -> None:
        """Take the host's link down."""
        if self.link_up:
            self.link_up = False
            self._network_moved()

    def find_network(self) -> None:
        """Bring the link up again, at the same address."""
        if not self.link_up:
            self.link_up = True
            self._network_moved()

    def move(self) -> None:
        """Give the host another address."""
        self.moves += 1
        if self.link_up:
            work = self.drivers.find(WatchNetwork)
            if work is not None:
                work.report(NetworkChanged(self.network, ("the address is another one",)))
            self.plane.reconsider(self)

    def crash(self) -> None:
        """Kill the process without a word to anybody, and start the next one."""
        self.engine.close()
        self._start()
        self.plane.note(self.name, f"process {self.process}")
        self.plane.reconsider(self)
        self.up()

    # -- its network -------------------------------------------------------------------------------------------------

    @property
    def network(self) -> HostNetwork:
        if not self.link_up:
            return HostNetwork()
        return HostNetwork(True, (("eth0", IPv4Address(self.address)),), (("eth0", f"198.51.{self.number}.254", 100),))

    def _network_report(self) -> NetworkCameUp | NetworkWentDown:
        return NetworkCameUp(self.network) if self.link_up else NetworkWentDown(self.network)

    def _network_moved(self) -> None:
        work = self.drivers.find(WatchNetwork)
        if work is not None:
            work.report(self._network_report())
        self.plane.reconsider(self)

    # -- its device --------------------------------------------------------------------------------------------------

    def _open_device(self, work: Work) -> None:
        assert isinstance(work.effect, OpenDevice)
        opened = DeviceOpened(work.effect.generation, "wt0", PORT)
        self.plane.scheduler.after(0.005, lambda: work.report(opened) if work.running else None)

    def _set_peers(self, work: Work) -> None:
        assert isinstance(work.effect, SetPeers)
        self.device.update((peer.key, peer) for peer in work.effect.changed)
        for key in work.effect.removed:
            self.device.pop(key, None)
        done_at_once(work)

    # -- its agents --------------------------------------------------------------------------------------------------

    def _negotiate(self, work: Work) -> None:
        effect = work.effect
        assert isinstance(effect, Negotiate)
        agent = SimulatedAgent(effect.peer, effect.generation, effect.remote_session)
        self.agents[effect.peer] = agent
        failed = NegotiationFailed(effect.peer, effect.generation, "no pair answered")
        agent.timer = self.plane.scheduler.after(NEGOTIATION, lambda: work.report(failed))
        found = Candidate("1", 2130706431, self.address, PORT, "host")
        gathered = CandidatesGathered(effect.peer, effect.generation, (found,))
        self.plane.scheduler.after(0.001, lambda: work.report(gathered) if work.running else None)
        self.plane.try_pair(self, effect.peer)

    def _give_candidates(self, work: Work) -> None:
        effect = work.effect
        assert isinstance(effect, GiveCandidates)
        agent = self.agents.get(effect.peer)
        if agent is not None and agent.generation == effect.generation:
            agent.remote_addresses.update(candidate.address for candidate in effect.candidates)
            self.plane.try_pair(self, effect.peer)
        done_at_once(work)

    def _keep_path(self, work: Work) -> None:
        effect = work.effect
        assert isinstance(effect, KeepPath)
        agent = self.agents.get(effect.peer)
        if agent is None or agent.generation != effect.generation:
            work.report(PathLost(effect.peer, effect.generation, "there is no agent to take over"))

    def selected(self, agent: SimulatedAgent, other: Host) -> None:
        """A pair was nominated, or moved with a host's address."""
        work = self.drivers.find(KeepPath, agent.peer) or self.drivers.find(Negotiate, agent.peer)
        if work is None or getattr(work.effect, "generation", None) != agent.generation:
            return
        agent.stop()
        agent.local, agent.remote = self.address, other.address
        path = Path(Endpoint(agent.local, PORT), Endpoint(agent.remote, PORT))
        work.report(PathSelected(agent.peer, agent.generation, path))

    def lose(self, agent: SimulatedAgent) -> None:
        """Nothing came over the path for too long."""
        work = self.drivers.find(KeepPath, agent.peer)
        if work is not None and isinstance(work.effect, KeepPath) and work.effect.generation == agent.generation:
            work.report(PathLost(agent.peer, agent.generation, f"nothing came for {PATH_SILENCE:g} s"))

    def _ended(self, work: Work) -> None:
        """Clean up behind an effect; note starts and ends in the trace."""
        how = "started" if work.ending is None else work.ending.value
        self.plane.note(self.name, f"{how} {work.effect!r}")
        if work.running:
            return
        match work.effect:
            case OpenDevice():
                self.device.clear()
            case Negotiate(peer=peer, generation=generation):
                kept = self.drivers.find(KeepPath, peer)
                if kept is None or kept.effect != KeepPath(peer, generation):
                    self._close_agent(peer, generation)
            case KeepPath(peer=peer, generation=generation):
                self._close_agent(peer, generation)

    def _close_agent(self, peer: PeerKey, generation: int) -> None:
        agent = self.agents.get(peer)
        if agent is not None and agent.generation == generation:
            agent.stop()
            del self.agents[peer]
            self.plane.reconsider(self)

    # -- watching over it --------------------------------------------------------------------------------------------

    def _stepped(self, step: Step) -> None:
        stamped = step.stamped
        self.plane.note(self.name, f"#{stamped.seq} <- #{stamped.cause} {stamped.event!r}")
        at = self.plane.scheduler.clock()
        running = [work.effect for work in self.drivers.running]
        for broken in (
            *broken_in_state(step.after, at),
            *broken_in_work(step.after, running),
            *broken_on_device(step.after, self.device),
        ):
            raise AssertionError(f"{self.name} at {at:.3f} s after {stamped.event!r}: {broken}")
