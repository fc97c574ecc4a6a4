"""The story in acts: what happens to the hosts, and what is measured meanwhile.

The first host, h1, is the one whose link is cut. Everything is measured from outside: events by the time that rxnet
stamped on them, pings by the kernel's time of arrival, all on the one wall clock of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from statistics import median
from typing import Final

from rxnet.demo import counters
from rxnet.demo.facts import PairPings, PeerFacts
from rxnet.demo.prober import Echo
from rxnet.demo.probes import Probes
from rxnet.demo.processes import Program, is_stopped
from rxnet.demo.stage import Stage, Stuck, plural, spread
from rxnet.demo.trace import Seen
from rxnet.wireguard.userspace import find_program

_START_LIMIT: Final = 30.0
_PER_HOST: Final = 4.0
"""Further seconds for each host: two dozen Pythons that start on two cores take their time."""
_TUNNEL_LIMIT: Final = 20.0
_LEAST_CUT: Final = 8.0
_MOST_CUT: Final = 14.0
"""Seconds; the link stays cut until all tunnels are given up, so that there is something to recover."""
_BACK_LIMIT: Final = 25.0
_NO_SIGNAL: Final = 2.0
_FROZEN: Final = 1.0
_BREATH: Final = 1.5
"""Seconds between two acts, for those who watch."""
_PINGS: Final = 3
_AT_ONCE: Final = 48
"""Pairs that are pinged at the same time."""


class Story:
    """One run."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.facts = stage.facts
        self.probes = Probes()
        self._cut_at = self._cure = 0.0

    async def tell(self) -> None:
        """All acts, then the counters. What fails is noted in the facts."""
        stage, facts = self.stage, self.facts
        ticker = asyncio.create_task(stage.watch())
        acts = (self.start_plane, self.connect_hosts, self.show_pending, self.cut_link, self.heal_link,
                self.without_signal, self.without_python)  # fmt: skip
        try:
            for act in acts:
                await act()
        except Stuck as stuck:
            facts.failures.append(str(stuck))
        finally:
            await self.probes.stop()
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
        stage.look()
        facts.seconds = time.time() - stage.start
        for host in stage.live[:1]:
            facts.events, facts.events_missed = len(host.trace), host.trace.missed
        running = [host for host in stage.live if host.process.poll() is None]
        facts.packets = list(await asyncio.gather(*(asyncio.to_thread(counters.packets, host) for host in running)))

    # -- act 1 and 2: from nothing to tunnels

    async def start_plane(self) -> None:
        stage = self.stage
        began = stage.act("A control plane starts: management, signal and STUN in one process.")
        plane = await asyncio.to_thread(stage.start_plane)
        await stage.until(lambda: b"ready" in plane.lines(), _START_LIMIT, "the start of the control plane")
        stage.screen.note(f"ready after {time.time() - began:.2f} s")

    async def connect_hosts(self) -> None:
        stage, facts = self.stage, self.facts
        began = stage.act(f"{facts.hosts} hosts log in and build WireGuard tunnels to each other.")
        limit = _START_LIMIT + _PER_HOST * len(stage.lan.hosts)
        first, *rest = stage.lan.hosts
        for place in reversed(rest):  # the silent one first: it is stopped as soon as it is registered
            await asyncio.to_thread(stage.start_host, place)
        silent = stage.hosts[0]
        await stage.until(lambda: silent.trace.first("LoggedIn"), limit, f"the login of {silent.name}")
        silent.send(signal.SIGSTOP)
        await stage.until(lambda: all(map(stage.overlay, stage.hosts)), limit, "the login of all hosts")
        tunnels = _TUNNEL_LIMIT + len(stage.hosts)
        await stage.until(stage.all_connected, tunnels, "a tunnel for each pair of the other hosts")
        # h1 comes last, so that its offers to the silent host are young when its link is cut.
        await asyncio.to_thread(stage.start_host, first)
        await stage.until(lambda: stage.overlay(stage.h1), limit, "the login of h1")
        await stage.until(stage.all_connected, tunnels, "a tunnel for each pair of hosts")
        opened = stage.h1.trace.first("DeviceOpened")
        facts.wireguard = "kernel" if opened and opened.data.get("kernel") else f"userspace, {find_program()}"
        took = time.time() - began
        stage.screen.note(f"all {facts.hosts * (facts.hosts - 1)} ends of the tunnels are up after {took:.2f} s")
        await self._ping_all_pairs()

    async def _ping_all_pairs(self) -> None:
        """A few pings from each host to each other one, both families, and their times."""
        stage, gate = self.stage, asyncio.Semaphore(_AT_ONCE)

        async def one(pair: PairPings, namespace: str, address: str) -> None:
            async with gate:
                with Echo(namespace, address) as echo:
                    await echo.first_answer(_TUNNEL_LIMIT)  # until both ends have shaken hands
                    pair.take(await echo.several(_PINGS, 0.1, 2.0))

        jobs = []
        for source in stage.live:
            for target in stage.live:
                for family, address in stage.overlay(target).items() if source is not target else ():
                    pair = PairPings(source.name, target.name, family)
                    self.facts.pings.append(pair)
                    jobs.append(one(pair, source.place.namespace, address))
        await asyncio.gather(*jobs)
        for family in (4, 6):
            pairs = [pair for pair in self.facts.pings if pair.family == family]
            times = [ms for pair in pairs for ms in pair.milliseconds]
            sent, answered = sum(pair.sent for pair in pairs), sum(pair.answered for pair in pairs)
            text = f": {min(times):.2f} to {max(times):.2f} ms, median {median(times):.2f} ms" if times else ""
            stage.screen.note(f"{answered} of {sent} IPv{family} pings answered{text}")

    # -- act 3 to 5: the seed's scenario

    async def show_pending(self) -> None:
        stage, cut = self.stage, self.facts.cut
        name = stage.silent_name
        stage.act(f"{name} is frozen: it cannot answer, so the offer that h1 sends it stays pending.")
        key = stage.key(name)
        await stage.until(lambda: self._offers_to(key), 10.0, f"an offer to {name}")
        self.probes.start(stage.h1.place.namespace, {host.name: stage.overlay(host)[4] for host in stage.others})
        await asyncio.sleep(_BREATH)
        stage.look()
        cut.offers_before = len(self._offers_to(key))
        stage.screen.note(f"h1 has sent it {plural(cut.offers_before, 'offer')} so far")

    def _offers_to(self, key: str) -> Sequence[Seen]:
        """What was sent to a peer that never answers: offers alone."""
        return list(self.stage.h1.trace.find("MessagesSent", peer=key))

    async def cut_link(self) -> None:
        stage, cut, trace = self.stage, self.facts.cut, self.stage.h1.trace
        stage.act("The cable of h1 is pulled. What was pending is cancelled at once.")
        self._cut_at = time.time()
        await asyncio.to_thread(stage.lan.cut, stage.lan.hosts[0])
        down = await self._event("NetworkWentDown", self._cut_at, 5.0)
        cancelled = await self._event("OffersCancelled", self._cut_at, 5.0)
        cut.network_down_after = down.at - self._cut_at
        cut.cancelled, cut.cancelled_after_event = int(cancelled.data["count"]), cancelled.at - down.at
        cut.cancelled_by = stage.cause(cancelled)
        stage.screen.note(
            f"h1 knew after {cut.network_down_after * 1000:.1f} ms, and cancelled "
            f"{plural(cut.cancelled, 'pending offer')} {cut.cancelled_after_event * 1000:.1f} ms later"
        )
        await asyncio.sleep(max(0.0, self._cut_at + _LEAST_CUT - time.time()))
        await stage.perhaps(lambda: not trace.connected(), self._cut_at + _MOST_CUT - time.time())
        cut.peers_lost = trace.count("PeerDisconnected", since=self._cut_at)
        stage.screen.note(f"meanwhile {plural(cut.peers_lost, 'tunnel')} timed out, and h1 sent no offers")

    async def heal_link(self) -> None:
        stage, trace = self.stage, self.stage.h1.trace
        stage.act("The cable is plugged in again. rxnet notices and does the rest.")
        self._cure = time.time()
        await asyncio.to_thread(stage.lan.heal, stage.lan.hosts[0])
        names = [host.name for host in stage.others]
        keys = {stage.key(name) for name in names}
        await self._event("OffersStarted", self._cure, _BACK_LIMIT)
        await stage.perhaps(lambda: all(self.probes.first_answered(n, self._cure) for n in names), _BACK_LIMIT)
        await stage.perhaps(lambda: keys <= trace.connected(), _BACK_LIMIT)
        self._measure_cut()
        self._measure_recovery()
        self.facts.peers = [self._peer_facts(name) for name in (*names, stage.silent_name)]
        pings = [peer.first_ping_after for peer in self.facts.peers if peer.first_ping_after is not None]
        paths = [peer.connected_after for peer in self.facts.peers if peer.connected_after is not None]
        back = self.facts.recovery
        if back.signal_after is not None:
            who = "that event" if back.started_by == "SignalConnected" else back.started_by or "something unknown"
            what = f"{who} started {plural(back.started or 0, 'peer')}"
            stage.screen.note(f"signal was connected after {spread([back.signal_after])}; {what}")
        stage.screen.note(f"first pings after {spread(pings)}, new paths after {spread(paths)}")
        await asyncio.sleep(_BREATH)

    def _measure_cut(self) -> None:
        cut, trace = self.facts.cut, self.stage.h1.trace
        cut.seconds = self._cure - self._cut_at
        cancelled = trace.first("OffersCancelled", since=self._cut_at)
        if cancelled is not None:
            # By sequence: what was in the engine's inbox together with the news of the cut came before this event.
            later = [event for event in trace.events if event.seq > cancelled.seq and event.at < self._cure]
            cut.messages_while_down = sum(event.name in ("MessagesSent", "MessagesNotSent") for event in later)
            cut.offers_due_while_down = sum(
                event.name == "DeadlineReached" and event.data.get("name") == "offer" for event in later
            )
        pings = self.probes.between(self._cut_at, self._cure, answered_before=self._cure)
        cut.pings_sent_while_down, cut.pings_answered_while_down = pings

    def _measure_recovery(self) -> None:
        back, trace = self.facts.recovery, self.stage.h1.trace
        if (up := trace.first("NetworkCameUp", since=self._cure)) is not None:
            back.network_up_after = up.at - self._cure
        if (connected := trace.first("SignalConnected", since=self._cure)) is not None:
            back.signal_after = connected.at - self._cure
        if (started := trace.first("OffersStarted", since=self._cure)) is not None:
            back.started, back.started_after = int(started.data["count"]), started.at - self._cure
            back.started_by = self.stage.cause(started)

    def _peer_facts(self, name: str) -> PeerFacts:
        stage, trace = self.stage, self.stage.h1.trace
        key = stage.key(name)
        peer = PeerFacts(name, silent=name == stage.silent_name, offer_cancelled=key in stage.timeline.cancelled)
        if peer.silent:
            peer.reason = "frozen on purpose, so it has no path and no pings"
            return peer
        medians = {pair.family: pair.middle for pair in self.facts.pings if (pair.source, pair.target) == ("h1", name)}
        peer.ping_ms, peer.ping_v6_ms = medians.get(4), medians.get(6)
        ping = self.probes.first_answered(name, self._cure)
        if ping is not None and ping.answered is not None:
            peer.first_ping_after = ping.answered - self._cure
        for event in trace.find("PeerConnected", peer=key):
            peer.path = {k: str(v) for k, v in event.data["path"].items() if k != "round_trip"}
            if event.at >= self._cure and peer.connected_after is None:
                peer.connected_after = event.at - self._cure
        if peer.connected_after is None:
            lost = trace.first("PeerDisconnected", since=self._cut_at, peer=key)
            peer.reason = "its path was lost and is not back" if lost else "its path outlived the cut"
        return peer

    # -- act 6 and 7: what the tunnels do not need

    async def without_signal(self) -> None:
        stage, outage, trace = self.stage, self.facts.signal_outage, self.stage.h1.trace
        began = stage.act("The signal service goes away for a while. Tunnels do not need it.")
        self._plane.send(signal.SIGUSR1)
        lost = await self._event("SignalDisconnected", began, 10.0)
        await asyncio.sleep(_NO_SIGNAL)
        self._plane.send(signal.SIGUSR2)
        back = await self._event("SignalConnected", lost.at, _BACK_LIMIT)
        await asyncio.sleep(0.3)  # for the last answers
        stage.look()
        outage.seconds = back.at - lost.at
        outage.peers_lost = trace.count("PeerDisconnected", since=lost.at, until=back.at)
        if (started := trace.first("OffersStarted", since=back.at)) is not None:
            outage.started_by = stage.cause(started)
        outage.pings_sent, outage.pings_answered = self.probes.between(lost.at, back.at)
        stage.screen.note(
            f"{outage.seconds:.1f} s without signal: {outage.pings_answered} of {outage.pings_sent} pings answered"
        )
        await asyncio.sleep(_BREATH)

    async def without_python(self) -> None:
        stage, frozen = self.stage, self.facts.frozen
        stage.act("Python is stopped on all hosts. Packets do not pass through it.")
        try:
            for host in stage.live:
                host.send(signal.SIGSTOP)
            await stage.perhaps(lambda: all(is_stopped(host.pid) for host in stage.live), 2.0)
            frozen.processes = sum(is_stopped(host.pid) for host in stage.live)
            began = time.time()
            await asyncio.sleep(_FROZEN)
            ended = time.time()
            await asyncio.sleep(0.2)  # for the last answers
        finally:
            for host in stage.live:
                host.send(signal.SIGCONT)
        frozen.seconds = ended - began
        frozen.pings_sent, frozen.pings_answered = self.probes.between(began, ended)
        stage.screen.note(
            f"{frozen.processes} of {len(stage.live)} stopped for {frozen.seconds:.1f} s: "
            f"{frozen.pings_answered} of {frozen.pings_sent} pings answered"
        )
        await asyncio.sleep(0.3)

    # -- help

    @property
    def _plane(self) -> Program:
        assert self.stage.plane is not None
        return self.stage.plane

    async def _event(self, name: str, since: float, limit: float) -> Seen:
        """Wait for an event of h1.

        :raises Stuck: if it does not come.
        """
        trace = self.stage.h1.trace
        await self.stage.until(lambda: trace.first(name, since=since), limit, f"the event {name}")
        found = trace.first(name, since=since)
        assert found is not None
        return found
