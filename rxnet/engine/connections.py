"""Management and signal: when to dial, when to wait, when to give up.

Each connection is one value of the state and one effect::

    status           effect
    IDLE             none
    DIALING          OpenManagement / OpenSignal (generation)
    CONNECTED        the same one: it goes on
    WAITING          WaitUntil (retry_at)
    REFUSED, ENDED   none, until the user acts

A local event (network up, command, address known) dials at once. The loss of a server backs off with full jitter. A
server that bans or limits us is left alone until `not_before`, whatever happens here, unless the user asks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rxnet.engine import backoff
from rxnet.engine.chance import fraction
from rxnet.engine.effects import Effect, OpenManagement, OpenSignal, WaitUntil
from rxnet.engine.inbox import Stamped
from rxnet.engine.state import FINAL, Connection, ConnectionStatus, State
from rxnet.events import (
    DeadlineReached,
    EffectFailed,
    LoggedIn,
    LoginRefused,
    ManagementConnected,
    ManagementDisconnected,
    ServersAnnounced,
    SignalConnected,
    SignalDisconnected,
    UpRequested,
)
from rxnet.model import Retry, ServerAddress

MANAGEMENT_RETRY: Final = "management retry"
SIGNAL_RETRY: Final = "signal retry"

_S = ConnectionStatus


# -- what should be going on -------------------------------------------------------------------------------------


def management_effect(state: State) -> Effect | None:
    link = state.management
    if link.status in (_S.DIALING, _S.CONNECTED):
        return OpenManagement(link.generation, link.login)
    if link.status is _S.WAITING and link.retry_at is not None:
        return WaitUntil(MANAGEMENT_RETRY, link.retry_at)
    return None


def signal_effect(state: State) -> Effect | None:
    link = state.signal
    if link.status in (_S.DIALING, _S.CONNECTED) and link.server is not None:
        return OpenSignal(link.generation, link.server)
    if link.status is _S.WAITING and link.retry_at is not None:
        return WaitUntil(SIGNAL_RETRY, link.retry_at)
    return None


# -- management --------------------------------------------------------------------------------------------------


def on_up_requested(state: State, event: UpRequested, stamped: Stamped) -> State:
    """The user acts: what was final, or is waiting, is tried again now."""
    management = replace(_asked(state.management), not_before=0.0)
    if state.management.status in FINAL:
        management = replace(management, login=True)
    return replace(state, wanted=True, management=management, signal=_asked(state.signal))


def _asked(link: Connection) -> Connection:
    return replace(link, status=_S.IDLE, attempt=0, retry_at=None) if link.status in (*FINAL, _S.WAITING) else link


def on_logged_in(state: State, event: LoggedIn, stamped: Stamped) -> State:
    if not _is_current(state.management, event.generation):
        return state
    return replace(
        state,
        local=event.local,
        # `login` stays until the attempt ends: changing it now would change the effect, hence cancel it.
        signal=_moved_to(state.signal, event.signal, stamped.at),
    )


def _moved_to(link: Connection, server: ServerAddress, at: float) -> Connection:
    if link.server == server:
        return link
    if link.status is _S.IDLE:
        return replace(link, server=server)
    return replace(redialed(link, at, "management named another signal server"), server=server)


def on_management_connected(state: State, event: ManagementConnected, stamped: Stamped) -> State:
    if not _is_current(state.management, event.generation):
        return state
    return replace(state, management=_connected(state.management, stamped.at))


def on_servers_announced(state: State, event: ServersAnnounced, stamped: Stamped) -> State:
    if not _is_current(state.management, event.generation):
        return state
    return replace(state, stuns=event.stuns)


def on_management_disconnected(state: State, event: ManagementDisconnected, stamped: Stamped) -> State:
    if not _is_current(state.management, event.generation):
        return state
    if event.retry is Retry.NEVER:
        return replace(state, management=_final(state.management, _S.ENDED, event.reason, stamped.at))
    link = _waiting(state.management, event.reason, stamped)
    if event.retry is Retry.SLOWLY:
        low, high = backoff.SLOW
        at = stamped.at + low + (high - low) * fraction(stamped.entropy)
        link = replace(link, retry_at=at, not_before=at)
    return replace(state, management=replace(link, login=link.login or event.retry is Retry.LOG_IN))


def on_login_refused(state: State, event: LoginRefused, stamped: Stamped) -> State:
    if not _is_current(state.management, event.generation):
        return state
    return replace(state, management=_final(state.management, _S.REFUSED, event.reason, stamped.at))


# -- signal ------------------------------------------------------------------------------------------------------


def on_signal_connected(state: State, event: SignalConnected, stamped: Stamped) -> State:
    if not _is_current(state.signal, event.generation):
        return state
    return replace(state, signal=_connected(state.signal, stamped.at))


def on_signal_disconnected(state: State, event: SignalDisconnected, stamped: Stamped) -> State:
    if not _is_current(state.signal, event.generation):
        return state
    return replace(state, signal=_waiting(state.signal, event.reason, stamped))


# -- both --------------------------------------------------------------------------------------------------------


def on_deadline(state: State, event: DeadlineReached, stamped: Stamped) -> State:
    if event.name == MANAGEMENT_RETRY and state.management.retry_at == event.at:
        return replace(state, management=_dialing(state.management, stamped.at))
    if event.name == SIGNAL_RETRY and state.signal.retry_at == event.at:
        return replace(state, signal=_dialing(state.signal, stamped.at))
    return state


def on_effect_failed(state: State, event: EffectFailed, stamped: Stamped) -> State:
    """Treat a driver's surprise as the failure that its effect reports when it is expected."""
    reason = f"unexpected: {event.reason}"
    if event.effect == OpenManagement.__name__:
        return on_management_disconnected(state, ManagementDisconnected(event.generation, reason), stamped)
    if event.effect == OpenSignal.__name__:
        return on_signal_disconnected(state, SignalDisconnected(event.generation, reason), stamped)
    return state


def settle(state: State, at: float) -> State:
    """Start what has become possible, stop what has become pointless."""
    final = state.management.status in FINAL
    possible = state.wanted and state.link.up and not final
    why = "stopped" if not state.wanted else "management has ended it" if final else "no network"
    management = _settled(state.management, possible, why, at)
    signal = _settled(state.signal, possible and state.signal.server is not None, why, at)
    if management is state.management and signal is state.signal:
        return state
    return replace(state, management=management, signal=signal)


def redialed(link: Connection, at: float, why: str) -> Connection:
    """Dial anew instead of what is going on, which is not to be trusted any more."""
    if link.status in (_S.IDLE, *FINAL):
        return link
    return _dialing(replace(_left(link), attempt=0, reason=why), at)


def _settled(link: Connection, possible: bool, why: str, at: float) -> Connection:
    if possible:
        return _dialing(replace(link, attempt=0), at) if link.status is _S.IDLE else link
    if link.status in (_S.IDLE, *FINAL):
        return link
    return replace(_left(link), status=_S.IDLE, since=at, reason=why, retry_at=None)


def _is_current(link: Connection, generation: int) -> bool:
    return link.generation == generation and link.status in (_S.DIALING, _S.CONNECTED)


def _dialing(link: Connection, at: float) -> Connection:
    if at < link.not_before:
        return replace(link, status=_S.WAITING, since=at, retry_at=link.not_before)
    return replace(link, status=_S.DIALING, generation=link.generation + 1, since=at, retry_at=None)


def _connected(link: Connection, at: float) -> Connection:
    return replace(link, status=_S.CONNECTED, since=at, reason="", retry_at=None)


def _waiting(link: Connection, reason: str, stamped: Stamped) -> Connection:
    at = stamped.at
    lasted = link.status is _S.CONNECTED and at - link.since >= backoff.HEALTHY_AFTER
    attempt = 1 if lasted else link.attempt + 1
    retry_at = at + backoff.SERVER.delay(attempt, stamped.entropy)
    return replace(_left(link), status=_S.WAITING, attempt=attempt, since=at, reason=reason, retry_at=retry_at)


def _left(link: Connection) -> Connection:
    """A stream that worked needs no login the next time; an attempt that never got that far does it again."""
    return replace(link, login=False) if link.status is _S.CONNECTED else link


def _final(link: Connection, status: ConnectionStatus, reason: str, at: float) -> Connection:
    return replace(link, status=status, since=at, reason=reason, retry_at=None)


REDUCERS: Final = (
    (UpRequested, on_up_requested),
    (LoggedIn, on_logged_in),
    (ManagementConnected, on_management_connected),
    (ServersAnnounced, on_servers_announced),
    (ManagementDisconnected, on_management_disconnected),
    (LoginRefused, on_login_refused),
    (SignalConnected, on_signal_connected),
    (SignalDisconnected, on_signal_disconnected),
    (DeadlineReached, on_deadline),
    (EffectFailed, on_effect_failed),
)
