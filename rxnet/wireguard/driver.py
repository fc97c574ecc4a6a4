"""Performs the engine's effects on the WireGuard device."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from rxnet.engine.effects import OpenDevice, SetPeers
from rxnet.errors import DeviceError
from rxnet.events import DeviceFailed, DeviceOpened, DeviceRefused, Event
from rxnet.log import logger
from rxnet.model import PeerKey
from rxnet.wireguard.device import Device, PassingDeviceError, PeerStats

_REFUSALS = 20
"""Refused peers of one effect that get an event each; the rest share one."""
_FRESH = 0.5
"""Seconds that counters may be old when several ask for them at once."""


class DeviceDriver:
    """Holds the device of `OpenDevice` and applies `SetPeers` to it.

    :param make: gives a new, unopened device for each `OpenDevice`.
    :param opened: called with the device when it listens, before anybody hears of it.
    :param closing: called with the device before it goes away, or when it has died. Whoever shares its UDP port must
        let go of it here: a successor could not bind it otherwise.
    """

    def __init__(
        self,
        make: Callable[[], Device],
        *,
        opened: Callable[[Device], None] = lambda device: None,
        closing: Callable[[Device], None] = lambda device: None,
    ) -> None:
        self._make = make
        self._opened = opened
        self._closing = closing
        self._device: Device | None = None
        self._generation = 0
        self._question: asyncio.Task[dict[PeerKey, PeerStats]] | None = None
        self._answered = 0.0

    @property
    def device(self) -> Device | None:
        """The open device, or None."""
        return self._device

    async def open_device(self, effect: OpenDevice) -> AsyncIterator[Event]:
        """Perform `OpenDevice`. Ends by itself only when there is no device: it could not be made, or has died."""
        device = self._make()
        failure: DeviceFailed
        try:
            await device.open()
            self._device, self._generation = device, effect.generation
            self._opened(device)
            yield DeviceOpened(effect.generation, device.name, device.listen_port, device.kernel)
            failure = DeviceFailed(effect.generation, await device.failed(), retry=True)
        except DeviceError as error:
            failure = DeviceFailed(effect.generation, str(error), retry=isinstance(error, PassingDeviceError))
        finally:
            if self._device is device:
                self._device = None
                self._drop_question()
                self._closing(device)
            await device.close()
        yield failure

    async def set_peers(self, effect: SetPeers) -> AsyncIterator[Event]:
        """Perform `SetPeers` on the device of the same generation; for any other it is late and does nothing."""
        device = self._device
        if device is None or effect.generation != self._generation:
            logger.debug("peers for a device that is gone (generation {}) were left alone", effect.generation)
            return
        try:
            refusals = await device.set_peers(effect.changed, effect.removed)
        except DeviceError as error:
            if self._device is device:
                # Nobody knows what it has taken: only a new interface is sure to hold what it was told.
                yield DeviceFailed(effect.generation, str(error), retry=True)
            return
        for refusal in refusals[:_REFUSALS]:
            yield DeviceRefused(f"peer {refusal.key[:44]}", refusal.reason)
        if len(refusals) > _REFUSALS:
            yield DeviceRefused(f"{len(refusals) - _REFUSALS} more peers", refusals[_REFUSALS].reason)

    # -- counters ----------------------------------------------------------------------------------------------

    async def stats(self) -> dict[PeerKey, PeerStats]:
        """Counters of all peers, at most half a second old; many askers share one question to the device.

        :raises DeviceError: there is no device, or it does not answer.
        """
        if self._device is None:
            raise DeviceError("there is no WireGuard interface to ask")
        loop = asyncio.get_running_loop()
        if self._question is None or (self._question.done() and loop.time() - self._answered > _FRESH):
            self._question = loop.create_task(self._ask(self._device))
        return await asyncio.shield(self._question)

    async def received_bytes(self, peer: PeerKey) -> int | None:
        """Bytes that WireGuard has received from a peer and authenticated; None when that cannot be known."""
        try:
            found = (await self.stats()).get(peer)
        except DeviceError:
            return None
        return found.rx_bytes if found is not None else None

    async def _ask(self, device: Device) -> dict[PeerKey, PeerStats]:
        try:
            return await device.stats()
        finally:
            self._answered = asyncio.get_running_loop().time()

    def _drop_question(self) -> None:
        if self._question is not None:
            self._question.cancel()
            self._question = None
