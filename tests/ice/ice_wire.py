"""A network in memory on virtual time: `StunPort`s that reach each other by address, through a wire that can be cut."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Awaitable, Callable
from typing import ClassVar

from aioice import stun

from rxnet.ice.packets import Address, parse_stun
from rxnet.ice.port import StunPort

RTT = 0.01


class Wire:
    """`listen` maps an address to whoever gets what is sent there. `passes` decides about each datagram."""

    def __init__(self) -> None:
        self.listen: dict[Address, Callable[[bytes, Address, str], None]] = {}
        self.passes: Callable[[Address, Address], bool] = lambda source, target: True
        self.sent: list[tuple[Address, Address, bytes]] = []

    def send(self, data: bytes, source: Address, target: Address) -> None:
        """Deliver after half a round trip, if the wire lets it pass now."""
        self.sent.append((source, target, data))
        if self.passes(source, target):
            asyncio.get_running_loop().call_later(RTT / 2, self._arrive, data, source, target)

    def _arrive(self, data: bytes, source: Address, target: Address) -> None:
        receiver = self.listen.get(target)
        if receiver is not None:
            receiver(data, source, target[0])

    def messages(self, source: str) -> list[stun.Message]:
        """What an address has sent, parsed."""
        parsed = (parse_stun(data) for sender, _, data in self.sent if sender[0] == source)
        return [message for message in parsed if message is not None]

    def stun_server(self, address: Address, mapped: Address) -> list[Address]:
        """A STUN server that tells everybody the same; gives the list of who asked."""
        askers: list[Address] = []

        def answer(data: bytes, source: Address, local: str) -> None:
            message = parse_stun(data)
            assert message is not None
            askers.append(source)
            told = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, message.transaction_id)
            told.attributes["XOR-MAPPED-ADDRESS"] = mapped
            self.send(bytes(told), address, source)

        self.listen[address] = answer
        return askers


class WirePort(StunPort):
    method: ClassVar[str] = "wire"

    def __init__(self, wire: Wire, port: int, *addresses: str) -> None:
        super().__init__(port)
        self.wire = wire
        self.open = True
        for address in addresses:
            wire.listen[address, port] = self.demux.dispatch

    @property
    def is_open(self) -> bool:
        return self.open

    def can_send_from(self, local: str) -> bool:
        return self.open

    def close(self) -> None:
        self.open = False

    def _send(self, data: bytes, local: str, target: Address) -> None:
        self.wire.send(data, (local, self.port), target)

    def _receive(self, sock: socket.socket) -> None:
        raise NotImplementedError


class _JumpingSelector(selectors.DefaultSelector):
    """Where a loop would sleep, time jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            if timeout is None:
                raise RuntimeError("nothing will ever happen again: the test waits for an event that nobody sends")
            self.now += max(timeout, 0.0)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time is the selector's."""

    def __init__(self) -> None:
        self.selector = _JumpingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def stall(turn: int, seconds: float) -> None:
    """Let the loop stand still for so long, within the turn of that number from now."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    if turn:
        loop.call_soon(stall, turn - 1, seconds)
    else:
        loop.selector.now += seconds


def run(test: Callable[[], Awaitable[None]], limit: float = 600.0) -> None:
    """Run a coroutine on virtual time, `limit` virtual seconds at most. Errors in callbacks are errors of the test."""
    troubles: list[str] = []

    async def body() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: troubles.append(repr(context)))
        async with asyncio.timeout(limit):
            await test()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(body())
    assert not troubles, troubles
