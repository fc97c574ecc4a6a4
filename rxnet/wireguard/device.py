"""The Device interface: what rxnet asks of a WireGuard interface, whoever implements it.

`userspace.py` is the first; a kernel device and one without privileges come to stand beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from rxnet.errors import DeviceError
from rxnet.model import Endpoint, PeerKey, WireGuardPeer

DEFAULT_NAME = "wt0"
DEFAULT_PORT = 51820


class PassingDeviceError(DeviceError):
    """A DeviceError that may go away by itself: trying again is worth it."""


@dataclass(frozen=True, slots=True)
class PeerStats:
    """What the device counts for one peer. Handshake messages count as bytes too."""

    rx_bytes: int = 0
    """Received and authenticated."""
    tx_bytes: int = 0
    last_handshake: float | None = None
    """Unix seconds; None: never."""
    endpoint: Endpoint | None = None
    """Where the device sends to now: WireGuard roams by itself."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One peer whose change the device did not take."""

    key: PeerKey
    reason: str


class Journal(Protocol):
    """Where changes to the host are written down before they are made, so that a crash can be cleaned up after."""

    def record(self, *, kind: str, **fields: Any) -> Any:
        """Write down a change about to be made; gives the id of the entry."""

    def update(self, id: Any, **fields: Any) -> None:
        """Add what became known later."""

    def done(self, id: Any) -> None:
        """The change has been taken back."""


class Device(ABC):
    """One WireGuard interface of this host.

    Life: `open` once, `close` once (also after a failed or cancelled `open`). One task calls `set_peers` at a time;
    `stats` may run beside it.
    """

    kernel: ClassVar[bool]
    """True when the kernel carries the packets."""

    name: str = ""
    """Of the interface; known after `open`."""
    listen_port: int = 0
    """UDP port that WireGuard really has; known after `open`."""
    pid: int | None = None
    """Process that owns the UDP sockets; None for the kernel."""

    @abstractmethod
    async def open(self) -> None:
        """Make the interface, up and listening, without peers and addresses.

        :raises DeviceError: it could not be made; `PassingDeviceError` when trying again may help.
        """

    @abstractmethod
    async def close(self) -> None:
        """Remove the interface and whatever came with it. Idempotent, bounded, does not raise."""

    @abstractmethod
    async def failed(self) -> str:
        """Wait, without end if need be, until the open interface dies by itself; gives the reason in one line."""

    @abstractmethod
    async def set_peers(self, changed: Sequence[WireGuardPeer], removed: Sequence[PeerKey] = ()) -> list[Refusal]:
        """Remove `removed`, then add or update `changed`, in this order. Only differences are sent.

        A given endpoint is always written, even one written before: WireGuard may have roamed away from it, and
        after a change of network an old wireguard-go sends from a stale address until told again.

        :returns: the peers that the device did not take; all others are applied.
        :raises DeviceError: the device does not answer; what was applied is unknown and will be sent in full again.
        """

    @abstractmethod
    async def stats(self) -> dict[PeerKey, PeerStats]:
        """Ask the device for the counters of all its peers.

        :raises DeviceError: the device does not answer.
        """
