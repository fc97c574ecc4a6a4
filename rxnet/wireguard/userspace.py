"""A WireGuard interface carried by a userspace program, `wireguard-go`, as a child process of ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from rxnet.errors import DeviceError, ProtocolError
from rxnet.log import logger
from rxnet.model import PeerKey, WireGuardPeer
from rxnet.namespaces import network_namespace
from rxnet.wireguard import host, launcher
from rxnet.wireguard.child import Child
from rxnet.wireguard.control import Control, control_path, listener
from rxnet.wireguard.device import (
    DEFAULT_NAME,
    DEFAULT_PORT,
    Device,
    Journal,
    PassingDeviceError,
    PeerStats,
    Refusal,
)
from rxnet.wireguard.peers import PeerChange, ToldPeers
from rxnet.wireguard.uapi import encode_interface, encode_peers, key_to_hex

_START_LIMIT = 10.0
"""Seconds for the program to make its interface and listen; 0.02-0.05 s are usual."""
_NAMES = 100
_TRANSACTION = 500
"""Peers of one request. The program holds its lock for a request, and packets of new peers wait for it."""
_KIND = "userspace-wireguard"


class UserspaceDevice(Device):
    """wireguard-go with a TUN: needs CAP_NET_ADMIN, /dev/net/tun and the program.

    :param private_key: 32 bytes.
    :param name: of the interface; None takes the first free of wt0, wt1, ...
    :param port: UDP port to listen on; when another program has it, a free one is taken. 0: any.
    :param program: of WireGuard; None takes the environment's WIREGUARD_GO or `wireguard-go` in PATH.
    """

    kernel: ClassVar[bool] = False

    def __init__(
        self,
        private_key: bytes,
        *,
        name: str | None = None,
        port: int = DEFAULT_PORT,
        program: str | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._private_key = private_key
        self._wanted_name = name
        self._wanted_port = port
        self._program = program
        self._journal = journal
        self._entry: Any = None
        self._child: Child | None = None
        self._control = Control("")
        self._common_socket: str | None = None
        """Our control socket when it lies in the common /run, and is ours to remove."""
        self._told = ToldPeers()
        self._closing = False

    # -- life --------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """See `Device.open`. Takes 0.03 to 0.1 s."""
        program = find_program(self._program)
        host.check_rights()
        for name in self._names():
            try:
                async with asyncio.timeout(_START_LIMIT):
                    await self._start(program, name)
                    await self._listen()
                return
            except TimeoutError:
                raise PassingDeviceError(
                    f"{program} did not come up with {name} within {_START_LIMIT:g} s{self._said()}"
                ) from None
            except _NameTaken as taken:
                # Somebody made an interface of this name in the same instant.
                await self._stop()
                if self._wanted_name is not None:
                    raise DeviceError(str(taken)) from None
        raise DeviceError(f"no free interface name from {DEFAULT_NAME} to wt{_NAMES - 1}: name one")

    async def close(self) -> None:
        """See `Device.close`."""
        self._closing = True
        await self._stop()

    async def failed(self) -> str:
        """See `Device.failed`."""
        assert self._child is not None
        code = await asyncio.shield(self._child.ended)
        return f"the WireGuard program ended ({ending(code)}){self._said()}"

    def _names(self) -> list[str]:
        wanted = self._wanted_name
        if wanted is None:
            return [name for name in (f"wt{n}" for n in range(_NAMES)) if not host.interface_exists(name)]
        if host.interface_exists(wanted):
            raise DeviceError(f"interface {wanted} exists already: remove it (ip link delete {wanted}) or name another")
        return [wanted]

    async def _start(self, program: str, name: str) -> None:
        self.name = name
        if self._journal is not None:
            self._entry = self._journal.record(kind=_KIND, name=name, program=program, namespace=network_namespace())
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LOG_LEVEL": "error",
            # Without it the program refuses to work on hosts whose kernel knows WireGuard.
            "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1",
        }
        arguments = [sys.executable, "-I", "-S", str(launcher.__file__), str(os.getpid()), program, name]
        try:
            self._child = Child(arguments, environment, f"{name} {os.path.basename(program)}")
        except OSError as error:
            raise DeviceError(f"{program} cannot be started: {error.strerror}") from None
        self.pid = self._child.pid
        if self._entry is not None and self._journal is not None:
            self._journal.update(self._entry, pid=self._child.pid, started=self._child.started)
        await self._poll(self._connected)

    async def _connected(self) -> bool:
        """Find the control socket: in the program's own /run, or in the common one where it has to do with that.

        Who listens is asked each time: in the common /run a namesake in another network namespace may.
        """
        assert self._child is not None
        pid, path = self._child.pid, control_path(self.name)
        for place in (f"/proc/{pid}/root{path}", path):
            if listener(place) == pid:
                if not host.own_mounts(pid):
                    self._common_socket = path
                self._control = Control(place)
                return True
        return False

    async def _listen(self) -> None:
        """Key, interface up, port. The port is written once at most: see `uapi.encode_interface`."""
        await self._configure(encode_interface(private_key=self._private_key))
        host.set_up(self.name)
        # The program binds a port of its own choice when it hears that the interface is up; a port written before
        # that would be bound later, and nobody would tell us that it was taken.
        await self._poll(self._bound)
        if not self._wanted_port or self.listen_port == self._wanted_port:
            return
        if host.port_is_free(self._wanted_port):
            try:
                await self._configure(encode_interface(listen_port=self._wanted_port))
                self.listen_port = self._wanted_port
                return
            except DeviceError:
                # Taken between the look and the bind; the program has no socket now. Any port mends that.
                await self._configure(encode_interface(listen_port=0))
                await self._poll(self._bound)
        logger.warning(
            "UDP port {} belongs to another program; {} listens on {}", self._wanted_port, self.name, self.listen_port
        )

    async def _bound(self) -> bool:
        self.listen_port = (await self._control.get()).listen_port
        return self.listen_port != 0

    async def _configure(self, request: bytes) -> None:
        answer = await self._control.request(request)
        if answer.errno:
            raise DeviceError(f"{self.name} refused its configuration: {answer.error}{self._said()}")

    async def _poll(self, arrived: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something that the program announces to nobody. Only while it starts; the caller sets the limit."""
        pause = 0.002
        while not await arrived():
            assert self._child is not None
            await asyncio.wait((self._child.ended,), timeout=pause)
            if not self._child.running:
                self._explain_end(self._child.ended.result())
            pause = min(pause * 1.5, 0.1)

    def _explain_end(self, code: int) -> None:
        said = self._said()
        if "busy" in said or "in use" in said:
            raise _NameTaken(f"interface {self.name} is taken by another program: name another{said}")
        raise DeviceError(f"the WireGuard program ended at once ({ending(code)}){said}")

    def _said(self) -> str:
        words = self._child.last_words if self._child is not None else ()
        return f"; it said: {' / '.join(words)}" if words else ""

    async def _stop(self) -> None:
        child, self._child = self._child, None
        try:
            if child is not None:
                await child.stop()
        finally:
            if self._common_socket is not None and listener(self._common_socket) is None:
                with contextlib.suppress(OSError):
                    os.unlink(self._common_socket)
            self._common_socket = None
            self._told.clear()
            if self._entry is not None and self._journal is not None and (child is None or not child.running):
                self._journal.done(self._entry)
            self._entry = None

    # -- peers -------------------------------------------------------------------------------------------------

    async def set_peers(self, changed: Sequence[WireGuardPeer], removed: Sequence[PeerKey] = ()) -> list[Refusal]:
        """See `Device.set_peers`."""
        refusals: list[Refusal] = []
        batch: list[PeerChange] = []
        for change in self._told.changes(changed, removed):
            try:
                key_to_hex(change.key)
            except ProtocolError as error:
                refusals.append(Refusal(change.key, str(error)))
                continue
            batch.append(change)
            if len(batch) == _TRANSACTION:
                await self._apply(batch, refusals)
                batch = []
        if batch:
            await self._apply(batch, refusals)
        return refusals

    async def _apply(self, batch: list[PeerChange], refusals: list[Refusal]) -> None:
        """Apply a batch; when the program refuses it, halve it until the guilty peer stands alone."""
        try:
            answer = await self._control.request(encode_peers(batch))
        except BaseException:
            # Cut off in the middle (cancelled, program gone): some of it may have been applied.
            self._told.forget(batch)
            raise
        if not answer.errno:
            self._told.applied(batch)
        elif len(batch) == 1:
            self._told.forget(batch)
            refusals.append(Refusal(batch[0].key, f"the WireGuard program refused it: {answer.error}"))
        else:
            # The program stops at the first error; what stood before it is applied, and may be again.
            half = len(batch) // 2
            await self._apply(batch[:half], refusals)
            await self._apply(batch[half:], refusals)

    async def stats(self) -> dict[PeerKey, PeerStats]:
        """See `Device.stats`. Costs about 5 µs a peer here, and more in the program: not for frequent use."""
        return (await self._control.get()).peers


class _NameTaken(Exception):
    pass


def find_program(program: str | None = None) -> str:
    """The WireGuard program: the one given, the environment's WIREGUARD_GO, or `wireguard-go` in PATH.

    :raises DeviceError: there is none, or it cannot be executed.
    """
    named = program or os.environ.get("WIREGUARD_GO") or ""
    found = shutil.which(named or "wireguard-go")
    if found is not None:
        return os.path.abspath(found)
    if named:
        raise DeviceError(f"WireGuard program {named} is missing or not executable: correct WIREGUARD_GO")
    raise DeviceError("no WireGuard program: install wireguard-go, or name it by the variable WIREGUARD_GO")


def ending(code: int) -> str:
    """A return code of a process in words."""
    return f"signal {-code}" if code < 0 else f"code {code}"
