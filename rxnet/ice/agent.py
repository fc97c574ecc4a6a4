"""An ICE agent on the shared port: aioice's checks and check list, with our own sockets, pace and end.

aioice keeps the check list, the states, the pairing, the roles and the answers. What differs from its `Connection`:

* no sockets: all host candidates live on the `StunPort` (a `Side` stands for one local address);
* `start` instead of `connect`: event-driven where aioice polls each 20 ms, and nothing to await;
* checks run by callbacks, not in a task each, and `discard` replaces `close`: it ends everything at once without
  awaiting, so that a thousand agents go in milliseconds;
* a check from the other side makes our own check of that pair go out again at once (RFC 8445 section 7.3.1.4; aioice
  leaves a check that is under way to its timer: half a second lost in hole punching);
* regular nomination: one pair, which stays (signal document, 4.5: Go peers keep the first one they hear of);
* requests that are not authentic get no answer; no consent checks (`keeper.py` watches the path).

aioice is pinned to 0.13; `PRIVATE_NAMES` is what we use of its inside, and a test asserts that they exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol, cast

import aioice
from aioice import stun
from aioice.candidate import candidate_priority
from aioice.ice import CandidatePair, StunProtocol

from rxnet.credentials import IceCredentials
from rxnet.ice.packets import Address, parse_stun
from rxnet.ice.port import StunPort
from rxnet.ice.side import UNREAD, Side
from rxnet.ice.transaction import Answer, Transaction
from rxnet.model import Candidate, Endpoint, Path

PRIVATE_NAMES: Final = (
    "_check_list",
    "_check_list_done",
    "_check_list_state",
    "_check_periodic",
    "_closing",
    "_early_checks",
    "_early_checks_done",
    "_nominated",
    "_nominating",
    "_pair_remote_candidate",
    "_protocols",
    "_queue",
    "_remote_candidates",
)
"""Private names of `aioice.Connection` that this module relies on."""

_TA = 0.02
"""Seconds between the starts of two checks (RFC 8445 section 14.2 has 50 ms, aioice 20 ms)."""
_PAIRS = 100
"""Longest check list (RFC 8445 section 6.1.2.5)."""
_REMOTE_CANDIDATES = 32
_LOCALS = 16

_FAMILY = 4
"""The IP version of the paths that we choose where both would do.

One for all peers, because a userspace WireGuard of 2025 confuses the destinations of a process that sends to both: its
pooled address buffer is filled before it is cut to the family's length, so an IPv6 packet behind an IPv4 one goes to
an address of which only the first four bytes are right. Handshakes then take 5 or 10 s, at random.
"""
_FAMILY_WAIT = 0.3
"""Seconds that it is waited for: long enough for a check that came before the peer's agent did to be sent again."""
_OPEN = (CandidatePair.State.WAITING, CandidatePair.State.FROZEN)


class AgentObserver(Protocol):
    """Who wants to know what an agent learns. Called from the event loop, must not block."""

    def selected(self, path: Path) -> None:
        """A pair was nominated, or another one than before."""

    def alive(self) -> None:
        """Something authentic came from the peer: a check, or the answer to one of ours."""


class _Nobody:
    """Observes what has ended."""

    def selected(self, path: Path) -> None:
        pass

    def alive(self) -> None:
        pass


_NOBODY: Final = _Nobody()


class Agent(aioice.Connection):
    """The agent of one session with one peer.

    :param locals: our addresses as text, best first; the port must serve their families.
    :param may_talk_to: whether an address may be sent to at all (never the overlay: a tunnel within the tunnel).
    """

    def __init__(
        self,
        port: StunPort,
        locals: Iterable[str],
        *,
        ours: IceCredentials,
        theirs: IceCredentials,
        controlling: bool,
        observer: AgentObserver,
        may_talk_to: Callable[[str], bool] = lambda address: True,
        is_local: Callable[[str], bool] = lambda address: False,
    ) -> None:
        super().__init__(ice_controlling=controlling, local_username=ours.ufrag, local_password=ours.pwd)
        self.remote_username = theirs.ufrag
        self.remote_password = theirs.pwd
        self._check_list_state = self._queue = UNREAD
        self.observer = observer
        self._port = port
        self._may_talk_to = may_talk_to
        self._is_local = is_local
        self._sides: dict[str, Side] = {}
        self._pacer: asyncio.TimerHandle | None = None
        self._runner_up: asyncio.TimerHandle | None = None
        """Nominates the pair that answered first, unless one of `_FAMILY` comes before."""
        self._path: tuple[CandidatePair, Path] | None = None
        for local in locals:
            self._side(local)
        port.demux.register(ours.ufrag, self)

    def __repr__(self) -> str:
        return f"Agent({self.local_username}:{self.remote_username})"

    # -- what drivers ask ----------------------------------------------------------------------------------------

    @property
    def remote_ufrag(self) -> str:
        """The other side's user fragment."""
        return self.remote_username or ""

    @property
    def port(self) -> StunPort:
        """The port it lives on."""
        return self._port

    @property
    def discarded(self) -> bool:
        """True after `discard`."""
        return self._closing

    @property
    def path(self) -> Path | None:
        """The selected path, or None so far."""
        return self._path[1] if self._path is not None else None

    def is_side(self, address: str, port: int) -> bool:
        """Whether this is one of our host candidates."""
        return address in self._sides and port == self._port.port

    def start(self) -> None:
        """Begin the checks: with the candidates known so far, and with checks that came before."""
        if self._closing or self._early_checks_done:
            return
        for remote in self._remote_candidates:
            self._pair_remote_candidate(remote)
        self.sort_check_list()
        self._early_checks_done = True
        while self._early_checks and not self._closing:
            self.check_incoming(*self._early_checks.popleft())
        self._pace()

    async def add_remote(self, candidate: Candidate) -> bool:
        """Add a candidate of the peer's; False if it is known already or the list is full.

        The end of candidates is never told: aioice would then give up, and refuse what comes late.
        """
        if self._closing or len(self._remote_candidates) >= _REMOTE_CANDIDATES:
            return False
        known = len(self._remote_candidates)
        await self.add_remote_candidate(
            aioice.Candidate(
                candidate.foundation,
                candidate.component,
                candidate.transport,
                candidate.priority,
                candidate.address,
                candidate.port,
                candidate.type,
            )
        )
        if self._early_checks_done and self._pacer is None:
            self._pace()
        return len(self._remote_candidates) > known

    def discard(self) -> None:
        """End at once: no check, no answer, no timer is left. Idempotent; does not await and must not.

        Does no more than that, for a thousand agents end together; `dissolve` does the rest when there is time.
        """
        if self._closing:
            return
        self._closing = self._check_list_done = True
        self._port.demux.unregister(self.local_username, self)
        if self._pacer is not None:
            self._pacer.cancel()
            self._pacer = None
        if self._runner_up is not None:
            self._runner_up.cancel()
            self._runner_up = None
        for pair in self._check_list:
            if pair.task is not None:
                pair.task.cancel()

    def dissolve(self) -> None:
        """After `discard`: cut what refers to it in a circle, so that its memory goes at once and not when the garbage
        collector has walked everything."""
        for pair in self._check_list:
            pair.task = None
        self._check_list.clear()
        self._early_checks.clear()
        self._nominated.clear()
        self._protocols.clear()
        self._sides.clear()
        self._path = None
        self.observer = _NOBODY

    def ask(self) -> bytes | None:
        """Send one check over the selected path, once; gives its transaction id, or None without a path.

        Whoever asks takes the answer from the port's demultiplexer. When our address has gone, another of the same
        family asks in its place: WireGuard follows, and the answer says that the path lives on.
        """
        if self._closing or self._path is None:
            return None
        pair = self._path[0]
        side = self._present(pair.local_candidate.host)
        if side is None:
            return None
        request = self.build_request(pair, nominate=False)
        request.add_message_integrity((self.remote_password or "").encode())
        side.send_stun(request, pair.remote_addr)
        return request.transaction_id

    def _present(self, local: str) -> Side | None:
        if self._is_local(local):
            return self._sides.get(local)
        family = [other for other in self._sides if (":" in other) == (":" in local) and self._is_local(other)]
        return self._sides[family[0]] if family else self._sides.get(local)

    # -- what the port brings ------------------------------------------------------------------------------------

    def take_request(self, message: bytes, source: Address, local: str) -> bool:
        """See `demux.Answerer`."""
        if self._closing:
            return False
        side = self._sides.get(local)
        if side is None and self._is_local(local):
            side = self._side(local)  # an address that came after the agent did
        if side is None:
            return False
        parsed = parse_stun(message)
        # aioice takes PRIORITY for granted. An unauthentic request gets no answer, so it is looked at here.
        if (
            parsed is None
            or not isinstance(parsed.attributes.get("PRIORITY"), int)
            or not parsed.check_message_integrity(self.local_password.encode())
            or not self._acceptable(source)
        ):
            return False
        self.observer.alive()
        if not self._closing:
            self.request_received(parsed, source, side)
        return True

    def _acceptable(self, source: Address) -> bool:
        if any(known.host == source[0] and known.port == source[1] for known in self._remote_candidates):
            return True
        return len(self._check_list) < _PAIRS and self._may_talk_to(source[0])

    def _side(self, local: str) -> Side | None:
        if local in self._sides or len(self._sides) >= _LOCALS or not self._port.can_send_from(local):
            return self._sides.get(local)
        side = Side(self, self._port, local, candidate_priority(1, "host", 65535 - len(self._sides)))
        self._sides[local] = side
        self._protocols.append(side)
        return side

    # -- aioice, changed -----------------------------------------------------------------------------------------

    def _pace(self) -> None:
        """Start the next check, and come back as long as there is one to start."""
        self._pacer = None
        if self._closing or self._check_list_done:
            return
        self._check_periodic()
        if any(pair.task is None and pair.state in _OPEN for pair in self._check_list):
            self._pacer = asyncio.get_running_loop().call_later(_TA, self._pace)

    def check_start_task(self, pair: CandidatePair) -> None:
        """Start the check of a pair, unless it is under way: by callbacks, where aioice has a task a check."""
        if pair.task is None and not self._closing:
            self.check_state(pair, CandidatePair.State.IN_PROGRESS)
            self._check(pair, nominate=False)

    def _check(self, pair: CandidatePair, nominate: bool) -> None:
        request = self.build_request(pair, nominate=nominate)
        key = (self.remote_password or "").encode()
        request.add_message_integrity(key)
        transaction = Transaction(
            self._port,
            pair.local_candidate.host,
            pair.remote_addr,
            request,
            partial(self._checked, pair, request, nominate),
            key=key,
        )
        # All that aioice does with a pair's task is to see that there is one, and to cancel it.
        pair.task = cast("asyncio.Task[None]", transaction)

    def _checked(self, pair: CandidatePair, request: stun.Message, nominate: bool, answer: Answer | None) -> None:
        """The end of a check (RFC 8445 section 7.2.5)."""
        pair.task = None
        if answer is None or self._closing:
            self._check_failed(pair)
            return
        message, source, round_trip = answer
        if message.message_class != stun.Class.RESPONSE:
            if message.error_code != 487:
                self._check_failed(pair)
                return
            # Both have the same role, and the other side's tie-breaker won.
            self.switch_role(ice_controlling="ICE-CONTROLLING" not in request.attributes)
            self._nominating.discard(pair.component)
            self._check(pair, nominate=False)
        elif source != pair.remote_addr:
            self._check_failed(pair)
        else:
            side = self._sides[pair.local_candidate.host]
            side.round_trips[source] = round_trip
            side.mapped[source] = message.attributes.get("XOR-MAPPED-ADDRESS", pair.local_addr)
            self._check_succeeded(pair, nominate)

    def _check_failed(self, pair: CandidatePair) -> None:
        self.check_state(pair, CandidatePair.State.FAILED)
        self.check_complete(pair)

    def _check_succeeded(self, pair: CandidatePair, nominate: bool) -> None:
        """Regular nomination (RFC 8445 section 8.1.1): the first pair that answers is asked once more, to stay.

        A pair of the other family gives one of `_FAMILY` a moment to come, see there.
        """
        if nominate or pair.remote_nominated:
            pair.nominated = True
        elif self.ice_controlling and pair.component not in self._nominating:
            if not self._another_family_may_come(pair):
                self._nominate(pair)
            elif self._runner_up is None:
                self._runner_up = asyncio.get_running_loop().call_later(_FAMILY_WAIT, self._nominate, pair)
            return
        self.check_state(pair, CandidatePair.State.SUCCEEDED)
        self.check_complete(pair)

    def _nominate(self, pair: CandidatePair) -> None:
        if self._runner_up is not None:
            self._runner_up.cancel()
            self._runner_up = None
        if self.ice_controlling and not self._closing and pair.component not in self._nominating:
            self._nominating.add(pair.component)
            self._check(pair, nominate=True)

    def _another_family_may_come(self, pair: CandidatePair) -> bool:
        """Whether this pair is not of `_FAMILY`, and one that is may still come: its candidate, or its answer."""
        return _family(pair.remote_addr[0]) != _FAMILY and any(_family(local) == _FAMILY for local in self._sides)

    def check_incoming(self, message: stun.Message, addr: Address, protocol: StunProtocol) -> None:
        """aioice's handling of an authentic check, and what it leaves out: send ours again that is under way."""
        super().check_incoming(message, addr, protocol)
        for pair in self._check_list:
            if pair.task is not None and pair.protocol is protocol and pair.remote_addr == addr:
                cast(Transaction, pair.task).nudge()

    def check_complete(self, pair: CandidatePair) -> None:
        """aioice's end of a check; then tell of a selected pair."""
        super().check_complete(pair)
        if self._closing:
            return
        if pair.state == CandidatePair.State.SUCCEEDED:
            self.observer.alive()
        if pair.nominated and self._nominated.get(pair.component) is pair:
            self._select(pair)
        elif self._pacer is None:
            self._pace()

    def _select(self, pair: CandidatePair) -> None:
        if self._path is not None and self._path[0] is pair:
            return  # Go peers repeat the nomination until they hear our answer
        self._path = (pair, self._describe(pair))
        for other in self._check_list:
            if other is not pair and other.task is not None:
                other.task.cancel()
                other.task = None
                # Not IN_PROGRESS: a check of the peer's shall be able to bring it back.
                self.check_state(other, CandidatePair.State.FAILED)
        self.observer.selected(self._path[1])

    def _describe(self, pair: CandidatePair) -> Path:
        side = self._sides[pair.local_candidate.host]
        local = Endpoint(*pair.local_addr)
        mapped = side.mapped.get(pair.remote_addr, pair.local_addr)
        return Path(
            local=local,
            remote=Endpoint(*pair.remote_addr),
            local_type="host" if mapped == pair.local_addr else "srflx",
            remote_type=pair.remote_candidate.type,
            round_trip=side.round_trips.get(pair.remote_addr, 0.0),
        )


def _family(address: str) -> int:
    return 6 if ":" in address else 4
