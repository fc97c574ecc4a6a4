"""Management and signal: when to dial, when to wait, when to give up. And the device, which follows the same table.

Each connection is one value of the state and one effect::

    status      effect
    IDLE        none
    DIALING     OpenManagement / OpenSignal (generation)
    CONNECTED   the same one: it goes on
    WAITING     WaitUntil (retry_at)
    REFUSED     none, until the user acts

A local event (network up, command, address known) dials at once. The loss of a server backs off with full jitter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from rxnet.engine import backoff
from rxnet.engine.effects import Effect, OpenDevice, OpenManagement, OpenSignal, WaitUntil, WatchNetwork
from rxnet.engine.inbox import Stamped
from rxnet.engine.state import Connection, ConnectionStatus, Device, DeviceStatus, Link, State, fraction, without_paths
from rxnet.events import (
    DeadlineReached,
    DeviceFailed,
    DeviceOpened,
    DownRequested,
    EffectFailed,
    LoggedIn,
    LoginRefused,
    ManagementConnected,
    ManagementDisconnected,
    NetworkCameUp,
    NetworkChanged,
    NetworkWentDown,
    ServersAnnounced,
    SignalConnected,
    SignalDisconnected,
    UpRequested,
)
from rxnet.model import HostNetwork, Retry

MANAGEMENT_RETRY: Final = "management retry"
NETWORK_RETRY: Final = "network retry"
SIGNAL_RETRY: Final = "signal retry"
DEVICE_RETRY: Final = "device retry"

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


def device_effect(state: State) -> Effect | None:
    device = state.device
    if device.status in (DeviceStatus.OPENING, DeviceStatus.OPEN):
        return OpenDevice(device.generation)
    if device.status is DeviceStatus.WAITING and device.retry_at is not None:
        return WaitUntil(DEVICE_RETRY, device.retry_at)
    return None


# -- commands and the network ------------------------------------------------------------------------------------


def on_up_requested(state: State, event: UpRequested, stamped: Stamped) -> State:
    # Asking again is how a user acts on a refusal.
    management, device = state.management, state.device
    if management.status is _S.REFUSED:
        management = replace(management, status=_S.IDLE, attempt=0, login=True)
    if device.status is DeviceStatus.FAILED:
        device = replace(device, status=DeviceStatus.CLOSED, attempt=0)
    return replace(state, wanted=True, management=management, device=device)


def on_down_requested(state: State, event: DownRequested, stamped: Stamped) -> State:
    return without_paths(replace(state, wanted=False), stamped.at, "stopped")


def on_network(state: State, event: NetworkCameUp | NetworkWentDown | NetworkChanged, stamped: Stamped) -> State:
    before = state.link.network
    state = replace(state, link=Link(True, event.network, stamped.at, state.link.generation))
    if isinstance(event, NetworkChanged) and _moved(before, event.network):
        # What was idle over such a change is not trusted: TCP may sleep for seconds before it notices.
        why = "the network changed"
        state = replace(
            state,
            management=_redialed(state.management, stamped.at, why),
            signal=_redialed(state.signal, stamped.at, why),
        )
    return state


def _moved(before: HostNetwork, after: HostNetwork) -> bool:
    """An address is gone or the default route is another one: connections may hang on what is no more."""
    return bool(set(before.addresses) - set(after.addresses)) or before.default_routes != after.default_routes


def _redialed(link: Connection, at: float, why: str) -> Connection:
    if link.status in (_S.IDLE, _S.REFUSED):
        return link
    return _dialing(replace(_left(link), attempt=0, reason=why), at)


# -- management --------------------------------------------------------------------------------------------------


def on_logged_in(state: State, event: LoggedIn, stamped: Stamped) -> State:
    if not _is_current(state.management, event.generation):
        return state
    return replace(
        state,
        local=event.local,
        # `login` stays until the attempt ends: changing it now would change the effect, hence cancel it.
        signal=_moved_to(state.signal, event.signal, stamped.at),
    )


def _moved_to(link: Connection, server: Any, at: float) -> Connection:
    if link.server == server:
        return link
    if link.status is _S.IDLE:
        return replace(link, server=server)
    return replace(_redialed(link, at, "management named another signal server"), server=server)


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
        return replace(state, management=_refused(state.management, event.reason, stamped.at))
    link = _waiting(state.management, event.reason, stamped)
    if event.retry is Retry.SLOWLY:
        low, high = backoff.SLOW
        link = replace(link, retry_at=stamped.at + low + (high - low) * fraction(stamped.entropy))
    return replace(state, management=replace(link, login=link.login or event.retry is Retry.LOG_IN))


def on_login_refused(state: State, event: LoginRefused, stamped: Stamped) -> State:
    if not _is_current(state.management, event.generation):
        return state
    return replace(state, management=_refused(state.management, event.reason, stamped.at))


# -- signal ------------------------------------------------------------------------------------------------------


def on_signal_connected(state: State, event: SignalConnected, stamped: Stamped) -> State:
    if not _is_current(state.signal, event.generation):
        return state
    return replace(state, signal=_connected(state.signal, stamped.at))


def on_signal_disconnected(state: State, event: SignalDisconnected, stamped: Stamped) -> State:
    if not _is_current(state.signal, event.generation):
        return state
    return replace(state, signal=_waiting(state.signal, event.reason, stamped))


# -- the device --------------------------------------------------------------------------------------------------


def on_device_opened(state: State, event: DeviceOpened, stamped: Stamped) -> State:
    if event.generation != state.device.generation or state.device.status is not DeviceStatus.OPENING:
        return state
    device = replace(
        state.device, status=DeviceStatus.OPEN, name=event.name, port=event.port, kernel=event.kernel, reason=""
    )
    return replace(state, device=device)


def on_device_failed(state: State, event: DeviceFailed, stamped: Stamped) -> State:
    device = state.device
    if event.generation != device.generation or device.status not in (DeviceStatus.OPENING, DeviceStatus.OPEN):
        return state
    state = without_paths(state, stamped.at, "the WireGuard interface failed")
    if not event.retry:
        return replace(state, device=replace(device, status=DeviceStatus.FAILED, reason=event.reason))
    attempt = 1 if device.status is DeviceStatus.OPEN else device.attempt + 1
    retry_at = stamped.at + backoff.DEVICE.delay(attempt, stamped.entropy)
    device = replace(device, status=DeviceStatus.WAITING, attempt=attempt, reason=event.reason, retry_at=retry_at)
    return replace(state, device=device)


# -- deadlines and surprises -------------------------------------------------------------------------------------


def on_deadline(state: State, event: DeadlineReached, stamped: Stamped) -> State:
    if event.name == MANAGEMENT_RETRY and state.management.retry_at == event.at:
        return replace(state, management=_dialing(state.management, stamped.at))
    if event.name == SIGNAL_RETRY and state.signal.retry_at == event.at:
        return replace(state, signal=_dialing(state.signal, stamped.at))
    if event.name == NETWORK_RETRY and state.link.retry_at == event.at:
        link = replace(state.link, generation=state.link.generation + 1, retry_at=None)
        return replace(state, link=link)
    if event.name == DEVICE_RETRY and state.device.retry_at == event.at:
        return replace(state, device=_opening(state.device))
    return state


def on_effect_failed(state: State, event: EffectFailed, stamped: Stamped) -> State:
    """Treat a driver's surprise as the failure that its effect reports when it is expected."""
    reason = f"unexpected: {event.reason}"
    if event.effect == WatchNetwork.__name__ and event.generation == state.link.generation:
        # The last picture of the network stays: it is the best there is until we look again.
        retry_at = stamped.at + backoff.DEVICE.delay(1, stamped.entropy)
        return replace(state, link=replace(state.link, retry_at=retry_at))
    if event.effect == OpenManagement.__name__:
        return on_management_disconnected(state, ManagementDisconnected(event.generation, reason), stamped)
    if event.effect == OpenSignal.__name__:
        return on_signal_disconnected(state, SignalDisconnected(event.generation, reason), stamped)
    if event.effect == OpenDevice.__name__:
        return on_device_failed(state, DeviceFailed(event.generation, reason, retry=True), stamped)
    return state


# -- what follows from the conditions ----------------------------------------------------------------------------


def settle(state: State, at: float) -> State:
    """Start what has become possible, stop what has become pointless."""
    refused = state.management.status is _S.REFUSED
    network = state.wanted and state.link.up
    why = "stopped" if not state.wanted else "management refused us" if refused else "no network"
    management = _settled(state.management, network and not refused, why, at)
    signal = _settled(state.signal, network and not refused and state.signal.server is not None, why, at)
    device = _device_settled(state.device, state.wanted and not refused and state.local is not None)
    if management is state.management and signal is state.signal and device is state.device:
        return state
    if state.device.status is DeviceStatus.OPEN and device.status is not DeviceStatus.OPEN:
        state = without_paths(state, at, why)
    return replace(state, management=management, signal=signal, device=device)


def _settled(link: Connection, possible: bool, why: str, at: float) -> Connection:
    if possible:
        return _dialing(replace(link, attempt=0), at) if link.status is _S.IDLE else link
    if link.status in (_S.IDLE, _S.REFUSED):
        return link
    return replace(_left(link), status=_S.IDLE, since=at, reason=why, retry_at=None)


def _device_settled(device: Device, possible: bool) -> Device:
    if possible:
        return _opening(device) if device.status is DeviceStatus.CLOSED else device
    if device.status in (DeviceStatus.CLOSED, DeviceStatus.FAILED):
        return device
    return replace(device, status=DeviceStatus.CLOSED, attempt=0, name="", port=0, retry_at=None)


def _is_current(link: Connection, generation: int) -> bool:
    return link.generation == generation and link.status in (_S.DIALING, _S.CONNECTED)


def _dialing(link: Connection, at: float) -> Connection:
    return replace(link, status=_S.DIALING, generation=link.generation + 1, since=at, retry_at=None)


def _connected(link: Connection, at: float) -> Connection:
    return replace(link, status=_S.CONNECTED, since=at, reason="", retry_at=None)


def _opening(device: Device) -> Device:
    return replace(device, status=DeviceStatus.OPENING, generation=device.generation + 1, retry_at=None)


def _waiting(link: Connection, reason: str, stamped: Stamped) -> Connection:
    at = stamped.at
    lasted = link.status is _S.CONNECTED and at - link.since >= backoff.HEALTHY_AFTER
    attempt = 1 if lasted else link.attempt + 1
    retry_at = at + backoff.SERVER.delay(attempt, stamped.entropy)
    return replace(_left(link), status=_S.WAITING, attempt=attempt, since=at, reason=reason, retry_at=retry_at)


def _left(link: Connection) -> Connection:
    """A stream that worked needs no login the next time; an attempt that never got that far does it again."""
    return replace(link, login=False) if link.status is _S.CONNECTED else link


def _refused(link: Connection, reason: str, at: float) -> Connection:
    return replace(link, status=_S.REFUSED, since=at, reason=reason, retry_at=None)


REDUCERS: Final = (
    (UpRequested, on_up_requested),
    (DownRequested, on_down_requested),
    (NetworkCameUp, on_network),
    (NetworkWentDown, on_network),
    (NetworkChanged, on_network),
    (LoggedIn, on_logged_in),
    (ManagementConnected, on_management_connected),
    (ServersAnnounced, on_servers_announced),
    (ManagementDisconnected, on_management_disconnected),
    (LoginRefused, on_login_refused),
    (SignalConnected, on_signal_connected),
    (SignalDisconnected, on_signal_disconnected),
    (DeviceOpened, on_device_opened),
    (DeviceFailed, on_device_failed),
    (DeadlineReached, on_deadline),
    (EffectFailed, on_effect_failed),
)
