"""Our addresses as STUN servers see them: asked once for all agents, and remembered for a while."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import TypeVar

from aioice import stun

from rxnet.ice.packets import Address
from rxnet.ice.port import StunPort
from rxnet.ice.transaction import Answer, Transaction
from rxnet.log import logger
from rxnet.model import ServerAddress

_T = TypeVar("_T")

OnMapped = Callable[[str, Address], None]
"""Called with a local address and what a server sees instead."""

_LIFE = 25.0
"""Seconds that an answer, or its absence, is good for; NATs forget idle mappings after 30 s and more."""
_RESOLVE_LIMIT = 5.0
_ASK_LIMIT = 5.0
_MOST = 64
"""Questions under way or remembered; more are not asked."""


@dataclass(slots=True)
class _Question:
    answer: asyncio.Future[Address | None]
    transaction: Transaction | None
    until: float


class ReflexiveAddresses:
    """The mapped addresses of one host, for each port, local address and server."""

    def __init__(self) -> None:
        self._names: dict[ServerAddress, tuple[asyncio.Task[list[str]], float]] = {}
        self._questions: dict[tuple[StunPort, str, Address], _Question] = {}

    def find(self, port: StunPort, locals: list[str], servers: tuple[ServerAddress, ...], told: OnMapped) -> Search:
        """Ask all servers from all local addresses of their family. `told` is called for each answer, soon or late,
        never before this returns, until the search is cancelled."""
        self._forget_old()
        search = Search(told)
        for server in servers:
            resolved = self._resolve(server)
            search.follow(resolved, partial(self._resolved, search, port, locals, server))
        return search

    def close(self) -> None:
        """Drop all questions."""
        for task, _ in self._names.values():
            task.cancel()
        for question in self._questions.values():
            if question.transaction is not None:
                question.transaction.cancel()
            question.answer.cancel()
        self._names.clear()
        self._questions.clear()

    def _resolve(self, server: ServerAddress) -> asyncio.Task[list[str]]:
        found = self._names.get(server)
        if found is not None:
            return found[0]
        loop = asyncio.get_running_loop()
        task = loop.create_task(_resolve(server))
        self._names[server] = (task, loop.time() + _LIFE)
        return task

    def _resolved(
        self,
        search: Search,
        port: StunPort,
        locals: list[str],
        server: ServerAddress,
        addresses: list[str],
    ) -> None:
        for text in addresses:
            for local in locals:
                if (":" in local) == (":" in text):
                    answer = self._ask(port, local, (text, server.port))
                    if answer is not None:
                        search.follow(answer, partial(search.tell, local))

    def _ask(self, port: StunPort, local: str, server: Address) -> asyncio.Future[Address | None] | None:
        key = (port, local, server)
        question = self._questions.get(key)
        if question is None:
            if len(self._questions) >= _MOST or not port.is_open:
                return None
            loop = asyncio.get_running_loop()
            question = self._questions[key] = _Question(loop.create_future(), None, loop.time() + _LIFE)
            request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
            question.transaction = Transaction(
                port, local, server, request, partial(_settle, question.answer, server), limit=_ASK_LIMIT
            )
        return question.answer

    def _forget_old(self) -> None:
        now = asyncio.get_running_loop().time()
        for server, (task, until) in list(self._names.items()):
            if until < now:
                task.cancel()
                del self._names[server]
        for key, question in list(self._questions.items()):
            if question.until < now or not key[0].is_open:
                if question.transaction is not None:
                    question.transaction.cancel()
                question.answer.cancel()
                del self._questions[key]


class Search:
    """What one agent waits for. Light, because the questions are shared: callbacks that look whether to call."""

    __slots__ = ("_told",)

    def __init__(self, told: OnMapped) -> None:
        self._told: OnMapped | None = told

    def follow(self, future: asyncio.Future[_T], then: Callable[[_T], None]) -> None:
        """Call `then` with the result of `future` when it has one, unless cancelled before."""

        def done(ended: asyncio.Future[_T]) -> None:
            if self._told is not None and not ended.cancelled() and ended.exception() is None:
                then(ended.result())

        # Never removed: among a thousand callbacks that would take a thousand steps, for each of a thousand agents.
        future.add_done_callback(done)

    def tell(self, local: str, mapped: Address | None) -> None:
        """An answer has come, or none in time."""
        if mapped is not None and self._told is not None:
            self._told(local, mapped)

    def cancel(self) -> None:
        """No more calls; and whom they were for is not kept until the questions are answered."""
        self._told = None


def _settle(answer: asyncio.Future[Address | None], server: Address, end: Answer | None) -> None:
    if answer.done():
        return
    mapped = end[0].attributes.get("XOR-MAPPED-ADDRESS") if end is not None else None
    if mapped is None:
        logger.debug("STUN server {}:{} did not tell our address", *server)
    answer.set_result(mapped)


async def _resolve(server: ServerAddress) -> list[str]:
    """The addresses of a server, one of each family; none when the name cannot be resolved in time."""
    with contextlib.suppress(ValueError):
        return [str(ip_address(server.host))]
    try:
        async with asyncio.timeout(_RESOLVE_LIMIT):
            found = await asyncio.get_running_loop().getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        logger.debug("STUN server {} cannot be resolved: {}", server.host, error or "no answer in time")
        return []
    of_family: dict[int, str] = {}
    for family, _, _, _, address in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            of_family.setdefault(family, str(address[0]).partition("%")[0])
    return list(of_family.values())
