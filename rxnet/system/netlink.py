"""Route netlink sockets of our own: one to ask with, one to be told by. Decoding is in rtnetlink.py.

The kernel answers a request while it is being sent, so nothing here waits in practice; long dumps give the event loop a
turn between two datagrams.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import itertools
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from rxnet.errors import RxnetError
from rxnet.files import problem
from rxnet.system import rtnetlink, rtnetlink_decode
from rxnet.system.rtnetlink import InterfaceAddress, Link, Message, Neighbour, Route, Rule

Wanted = Callable[[memoryview], bool]

_SOL_NETLINK: Final = 270
_NETLINK_GET_STRICT_CHK: Final = 12
_SO_RCVBUFFORCE: Final = 33
_SO_ATTACH_FILTER: Final = 26

# RTMGRP_*: links, addresses, routes and rules, both families. No neighbours, no prefixes, no traffic control.
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000
_DATAGRAM: Final = 1 << 16
_ANSWER_LIMIT: Final = 5.0
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
# What the kernel says for a family that is switched off, and a table or interface that does not exist.
_NOTHING_THERE: Final = (errno.ENODEV, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.ENOENT, errno.EPFNOSUPPORT)


def open_netlink() -> socket.socket:
    """A non-blocking NETLINK_ROUTE socket.

    :raises RxnetError: the system does not give one.
    """
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    except OSError as error:
        reason = problem(error)
        raise RxnetError(
            f"cannot open a netlink socket ({reason}): allow AF_NETLINK (systemd: RestrictAddressFamilies)"
        ) from None
    opened.setblocking(False)
    return opened


def open_notifications(receive_buffer: int) -> socket.socket:
    """A socket on which the kernel announces changes of links, addresses, default routes and rules.

    Where the kernel can (SO_ATTACH_FILTER), other routes are dropped before they wake us.

    :param receive_buffer: bytes.
    :raises RxnetError: the system does not give one.
    """
    opened = open_netlink()
    try:
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
        except OSError:  # without CAP_NET_ADMIN up to net.core.rmem_max
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with contextlib.suppress(OSError):
            _drop_other_routes(opened)
        opened.bind((0, _GROUPS))
    except OSError as error:
        opened.close()
        raise RxnetError(f"cannot listen for network changes: {problem(error)}") from None
    return opened


def _drop_other_routes(opened: socket.socket) -> None:
    """Attach a classic BPF program: of route messages only those about default routes of the main table pass."""
    new, gone = (socket.htons(type_) for type_ in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE))
    load_half, load_byte, jump_equal, give = 0x28, 0x30, 0x15, 0x06
    program = (
        (load_half, 0, 0, 4),  # nlmsg_type, read as big-endian
        (jump_equal, 1, 0, new),
        (jump_equal, 0, 5, gone),
        (load_byte, 0, 0, 17),  # rtm_dst_len
        (jump_equal, 0, 2, 0),
        (load_byte, 0, 0, 20),  # rtm_table
        (jump_equal, 1, 0, rtnetlink.MAIN_TABLE),
        (give, 0, 0, 0),
        (give, 0, 0, 0xFFFFFFFF),
    )
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)  # must live until setsockopt has copied it
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(buffer)))


class Netlink:
    """Asks the kernel. One request at a time; not for several tasks at once.

    Every method raises `RxnetError` when the kernel refuses or does not answer.
    """

    def __init__(self) -> None:
        self.interrupted = False
        """Set when a table changed during every attempt to read it: what was returned may lack entries."""
        self._socket = open_netlink()
        self._sequence = itertools.count(1)
        with contextlib.suppress(OSError):  # before Linux 4.20 the kernel tells more, and we sort it out
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def links(self) -> list[Link]:
        found = await self._dump(rtnetlink.RTM_GETLINK, rtnetlink.RTM_NEWLINK, rtnetlink.request_links())
        return [link for message in found if (link := rtnetlink_decode.decode_link(message.payload)) is not None]

    async def addresses(self) -> list[InterfaceAddress]:
        found = await self._dump(rtnetlink.RTM_GETADDR, rtnetlink.RTM_NEWADDR, rtnetlink.request_addresses())
        return [a for message in found if (a := rtnetlink_decode.decode_address(message.payload)) is not None]

    async def default_routes(self) -> list[Route]:
        """The unicast default routes of the main table. Others are skipped undecoded."""
        found = await self._routes(0, rtnetlink_decode.is_main_default)
        return [route for route in found if route.destination.prefixlen == 0]

    async def routes(self, index: int) -> list[Route]:
        """The unicast routes of the main table over one interface."""
        found = await self._routes(index, None)
        return [route for route in found if any(hop.index == index for hop in route.hops)]

    async def _routes(self, index: int, wanted: Wanted | None) -> list[Route]:
        routes: list[Route] = []
        for family in _FAMILIES:
            asked = rtnetlink.request_routes(family, index)
            found = await self._dump(rtnetlink.RTM_GETROUTE, rtnetlink.RTM_NEWROUTE, asked, wanted)
            decoded = (rtnetlink_decode.decode_route(message.payload) for message in found)
            routes += [r for r in decoded if r is not None and r.table == rtnetlink.MAIN_TABLE]
        return routes

    async def rules(self) -> list[Rule]:
        rules: list[Rule] = []
        for family in _FAMILIES:
            found = await self._dump(rtnetlink.RTM_GETRULE, rtnetlink.RTM_NEWRULE, rtnetlink.request_rules(family))
            rules += [
                r for message in found if (r := rtnetlink_decode.decode_rule(message.payload)) and r.family == family
            ]
        return rules

    async def neighbours(self, index: int) -> list[Neighbour]:
        """The neighbours on one interface, both families."""
        asked = rtnetlink.request_neighbours(index)
        found = await self._dump(rtnetlink.RTM_GETNEIGH, rtnetlink.RTM_NEWNEIGH, asked)
        decoded = (rtnetlink_decode.decode_neighbour(message.payload) for message in found)
        return [n for n in decoded if n is not None and n.index == index]

    async def delete_neighbour(self, neighbour: Neighbour) -> None:
        """:raises OSError: the kernel refuses; ENOENT: it is gone already."""
        flags = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_ACK
        sequence = self._send(rtnetlink.RTM_DELNEIGH, flags, rtnetlink.name_neighbour(neighbour))
        while True:
            for message in await self._receive():
                if message.sequence == sequence and message.type == rtnetlink.NLMSG_ERROR:
                    if code := rtnetlink.error_code(message.payload):
                        raise OSError(code, os.strerror(code))
                    return

    async def _dump(self, asked: int, answer: int, payload: bytes, wanted: Wanted | None = None) -> list[Message]:
        found: list[Message] = []
        for _attempt in range(3):
            found, consistent = await self._dump_once(asked, answer, payload, wanted)
            if consistent:
                return found
        self.interrupted = True
        return found

    async def _dump_once(
        self, asked: int, answer: int, payload: bytes, wanted: Wanted | None
    ) -> tuple[list[Message], bool]:
        """One dump, and whether it is consistent (no NLM_F_DUMP_INTR: the table did not change meanwhile)."""
        sequence = self._send(asked, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_DUMP, payload)
        found: list[Message] = []
        consistent = True
        for datagram in itertools.count(1):
            for message in await self._receive(answer, wanted):
                if message.sequence != sequence:
                    continue
                consistent = consistent and not message.flags & rtnetlink.NLM_F_DUMP_INTR
                if message.type == answer:
                    found.append(message)
                elif message.type in (rtnetlink.NLMSG_DONE, rtnetlink.NLMSG_ERROR):
                    code = rtnetlink.error_code(message.payload)
                    if code and code not in _NOTHING_THERE:
                        raise RxnetError(f"the kernel refused netlink request {asked}: {os.strerror(code).lower()}")
                    return found, consistent
            if datagram % 4 == 0:
                await asyncio.sleep(0)  # a table of a million routes shall not stop everything else
        raise AssertionError("unreachable")

    def _send(self, type_: int, flags: int, payload: bytes) -> int:
        sequence = next(self._sequence)
        try:
            self._socket.send(rtnetlink.encode(type_, flags, sequence, payload))
        except OSError as error:
            reason = problem(error)
            raise RxnetError(f"the kernel refused netlink request {type_}: {reason}") from None
        return sequence

    async def _receive(self, answer: int = 0, wanted: Wanted | None = None) -> list[Message]:
        """The messages of one datagram; of those of type `answer` only the wanted ones."""
        while True:
            try:
                data, sender = self._socket.recvfrom(_DATAGRAM)
            except BlockingIOError:
                await _readable(self._socket)
                continue
            except OSError as error:
                raise RxnetError(f"cannot read from netlink: {problem(error)}") from None
            if sender[0] == 0:  # the kernel's port
                return list(rtnetlink.messages(data, answer, wanted))


async def _readable(waiting: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(waiting, lambda: None if ready.done() else ready.set_result(None))
    try:
        async with asyncio.timeout(_ANSWER_LIMIT):
            await ready
    except TimeoutError:
        raise RxnetError(f"the kernel did not answer a netlink request within {_ANSWER_LIMIT:g} s") from None
    finally:
        loop.remove_reader(waiting)
