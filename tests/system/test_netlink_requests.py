"""Asking the kernel, with a kernel that misbehaves as real ones do under load."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterator

import kernel_messages as kernel
import pytest

from rxnet.errors import RxnetError
from rxnet.system import monitor, netlink
from rxnet.system.network_state import IgnoredInterfaces
from rxnet.system.notifications import Notifications

INTERRUPTED = 0x10
LINKS = [kernel.link(1, "lo", loopback=True), kernel.link(2, "e0")]


class FakeKernel:
    """A socket on which `answer(type, sequence)` gives the datagrams that answer a request."""

    def __init__(self, answer: Callable[[int, int], list[tuple[bytes, int]]]) -> None:
        self.asked: list[int] = []
        self._answer = answer
        self._queue: list[tuple[bytes, tuple[int, int]]] = []
        self._end, self._other = socket.socketpair()  # only for something that never becomes readable

    def fileno(self) -> int:
        return self._end.fileno()

    def setsockopt(self, *_: int) -> None:
        raise OSError(errno.ENOPROTOOPT, "an old kernel")

    def send(self, data: bytes) -> None:
        _length, type_, _flags, sequence, _pid = struct.unpack_from("=IHHII", data)
        self.asked.append(type_)
        self._queue += [(datagram, (port, 0)) for datagram, port in self._answer(type_, sequence)]

    def recvfrom(self, _size: int) -> tuple[bytes, tuple[int, int]]:
        if not self._queue:
            raise BlockingIOError
        return self._queue.pop(0)

    def close(self) -> None:
        self._end.close()
        self._other.close()


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., netlink.Netlink]]:
    """Makes a Netlink that talks to a fake kernel."""
    opened: list[netlink.Netlink] = []

    def make(answer: Callable[[int, int], list[tuple[bytes, int]]]) -> netlink.Netlink:
        fake = FakeKernel(answer)
        with monkeypatch.context() as patch:
            patch.setattr(netlink, "open_netlink", lambda: fake)
            opened.append(netlink.Netlink())
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def dump(found: list[bytes], sequence: int, flags: int = 0) -> list[tuple[bytes, int]]:
    """The datagrams of a dump, one message each, with the sequence number and flags set."""
    end = kernel.message(3, bytes(4))
    return [(m[:6] + struct.pack("=HI", 2 | flags, sequence) + m[12:], 0) for m in (*found, end)]


def test_a_dump_is_repeated_when_the_table_changed_meanwhile(ask: Callable[..., netlink.Netlink]) -> None:
    answers = iter([INTERRUPTED, 0])
    kernel_ = ask(lambda type_, sequence: dump(LINKS, sequence, next(answers)))
    assert [link.name for link in asyncio.run(kernel_.links())] == ["lo", "e0"]
    assert not kernel_.interrupted


def test_a_table_that_never_rests_is_read_again_later(ask: Callable[..., netlink.Netlink]) -> None:
    kernel_ = ask(lambda type_, sequence: dump(LINKS if type_ == 18 else [], sequence, INTERRUPTED))
    assert len(asyncio.run(kernel_.links())) == 2
    assert kernel_.interrupted
    known = Notifications(IgnoredInterfaces(), set)
    asyncio.run(monitor._read_stale(kernel_, known))
    assert known.stale and known.stale_rules


def test_a_good_reading_is_not_repeated(ask: Callable[..., netlink.Netlink]) -> None:
    kernel_ = ask(lambda type_, sequence: dump(LINKS if type_ == 18 else [], sequence))
    known = Notifications(IgnoredInterfaces(), set)
    asyncio.run(monitor._read_stale(kernel_, known))
    assert not known.stale and not known.stale_rules and not known.reading


def test_what_others_send_is_not_listened_to(ask: Callable[..., netlink.Netlink]) -> None:
    stranger = dump([kernel.link(9, "evil0")], 1)

    def answer(_type: int, sequence: int) -> list[tuple[bytes, int]]:
        old = dump([kernel.link(8, "old0")], sequence + 7)
        return [(datagram, 4711) for datagram, _ in stranger] + old + dump(LINKS, sequence)

    assert [link.name for link in asyncio.run(ask(answer).links())] == ["lo", "e0"]


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.ENOENT])
def test_a_family_that_is_off_has_no_entries(ask: Callable[..., netlink.Netlink], code: int) -> None:
    def answer(_type: int, sequence: int) -> list[tuple[bytes, int]]:
        return [(kernel.message(2, struct.pack("=i", -code) + bytes(16), 0, sequence), 0)]

    assert asyncio.run(ask(answer).rules()) == []


def test_a_refusal_is_an_error(ask: Callable[..., netlink.Netlink]) -> None:
    def answer(_type: int, sequence: int) -> list[tuple[bytes, int]]:
        return [(kernel.message(2, struct.pack("=i", -errno.EPERM) + bytes(16), 0, sequence), 0)]

    with pytest.raises(RxnetError, match="operation not permitted"):
        asyncio.run(ask(answer).links())


def test_silence_is_an_error(ask: Callable[..., netlink.Netlink], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "_ANSWER_LIMIT", 0.01)
    with pytest.raises(RxnetError, match="did not answer"):
        asyncio.run(ask(lambda type_, sequence: []).links())
