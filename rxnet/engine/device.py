"""The WireGuard interface and its addresses: opened when we know who we are, opened again when it dies.

::

    status    effects
    CLOSED    none
    OPENING   OpenDevice (generation)
    OPEN      the same one: it goes on; AssignAddresses (generation, local, attempt)
    WAITING   WaitUntil (retry_at)
    FAILED    none, until the user acts

Addresses that could not all be set are tried again a few times; then `reason` says what is missing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rxnet.engine import backoff
from rxnet.engine.effects import AssignAddresses, Effect, OpenDevice, SetPeers, WaitUntil
from rxnet.engine.inbox import Stamped
from rxnet.engine.peers import without_paths
from rxnet.engine.state import FINAL, Device, DeviceStatus, State
from rxnet.events import (
    AddressesAssigned,
    DeadlineReached,
    DeviceFailed,
    DeviceOpened,
    DownRequested,
    EffectFailed,
    UpRequested,
)

DEVICE_RETRY: Final = "device retry"
ADDRESSES_RETRY: Final = "addresses retry"

ADDRESS_ATTEMPTS: Final = 5
"""A host that refuses an address (IPv6 switched off, say) will go on doing so: it is not asked for ever."""

_S = DeviceStatus


def device_effect(state: State) -> Effect | None:
    device = state.device
    if device.status in (_S.OPENING, _S.OPEN):
        return OpenDevice(device.generation)
    if device.status is _S.WAITING and device.retry_at is not None:
        return WaitUntil(DEVICE_RETRY, device.retry_at)
    return None


def addresses_effect(state: State) -> Effect | None:
    device = state.device
    if device.status is not _S.OPEN or state.local is None:
        return None
    if device.addresses_retry_at is not None:
        return WaitUntil(ADDRESSES_RETRY, device.addresses_retry_at)
    return AssignAddresses(device.generation, state.local, device.addresses)


def on_up_requested(state: State, event: UpRequested, stamped: Stamped) -> State:
    if state.device.status is not _S.FAILED:
        return state
    return replace(state, device=replace(state.device, status=_S.CLOSED, attempt=0))


def on_down_requested(state: State, event: DownRequested, stamped: Stamped) -> State:
    return without_paths(replace(state, wanted=False), stamped.at, "stopped")


def on_device_opened(state: State, event: DeviceOpened, stamped: Stamped) -> State:
    if event.generation != state.device.generation or state.device.status is not _S.OPENING:
        return state
    device = replace(state.device, status=_S.OPEN, name=event.name, port=event.port, kernel=event.kernel, reason="")
    return replace(state, device=device)


def on_device_failed(state: State, event: DeviceFailed, stamped: Stamped) -> State:
    device = state.device
    if event.generation != device.generation or device.status not in (_S.OPENING, _S.OPEN):
        return state
    state = without_paths(state, stamped.at, "the WireGuard interface failed")
    if not event.retry:
        return replace(state, device=replace(_closed(device), status=_S.FAILED, reason=event.reason))
    attempt = 1 if device.status is _S.OPEN else device.attempt + 1
    retry_at = stamped.at + backoff.DEVICE.delay(attempt, stamped.entropy)
    device = replace(_closed(device), status=_S.WAITING, attempt=attempt, reason=event.reason, retry_at=retry_at)
    return replace(state, device=device)


def on_addresses_assigned(state: State, event: AddressesAssigned, stamped: Stamped) -> State:
    device = state.device
    if event.generation != device.generation or event.attempt != device.addresses or device.status is not _S.OPEN:
        return state
    if not event.refused:
        return replace(state, device=replace(device, reason=""))
    device = replace(device, reason=f"not set on the interface: {event.refused}")
    if device.addresses + 1 < ADDRESS_ATTEMPTS:
        delay = backoff.DEVICE.delay(device.addresses + 1, stamped.entropy)
        device = replace(device, addresses_retry_at=stamped.at + delay)
    return replace(state, device=device)


def on_deadline(state: State, event: DeadlineReached, stamped: Stamped) -> State:
    device = state.device
    if event.name == DEVICE_RETRY and device.retry_at == event.at:
        return replace(state, device=_opening(device))
    if event.name == ADDRESSES_RETRY and device.addresses_retry_at == event.at:
        return replace(state, device=replace(device, addresses=device.addresses + 1, addresses_retry_at=None))
    return state


def on_effect_failed(state: State, event: EffectFailed, stamped: Stamped) -> State:
    """Treat a driver's surprise as the failure that its effect reports when it is expected."""
    reason = f"unexpected: {event.reason}"
    if event.effect in (OpenDevice.__name__, SetPeers.__name__):
        # A device that was not told of a peer is one that the state lies about: open another one.
        return on_device_failed(state, DeviceFailed(event.generation, reason, retry=True), stamped)
    if event.effect == AssignAddresses.__name__:
        assigned = AddressesAssigned(event.generation, state.device.addresses, reason)
        return on_addresses_assigned(state, assigned, stamped)
    return state


def settle(state: State, at: float) -> State:
    """Open the interface when we know who we are, close it when nobody wants it or management is done with us."""
    final = state.management.status in FINAL
    device = state.device
    if state.wanted and not final and state.local is not None:
        return replace(state, device=_opening(device)) if device.status is _S.CLOSED else state
    if device.status in (_S.CLOSED, _S.FAILED):
        return state
    if device.status is _S.OPEN:
        state = without_paths(state, at, "management has ended it" if final else "stopped")
    return replace(state, device=replace(_closed(device), attempt=0))


def _closed(device: Device) -> Device:
    return Device(_S.CLOSED, device.generation, device.attempt, reason=device.reason)


def _opening(device: Device) -> Device:
    return replace(device, status=_S.OPENING, generation=device.generation + 1, retry_at=None)


REDUCERS: Final = (
    (UpRequested, on_up_requested),
    (DownRequested, on_down_requested),
    (DeviceOpened, on_device_opened),
    (DeviceFailed, on_device_failed),
    (AddressesAssigned, on_addresses_assigned),
    (DeadlineReached, on_deadline),
    (EffectFailed, on_effect_failed),
)
