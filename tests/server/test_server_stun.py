"""The STUN server: messages by hand, sockets, and aioice as a client."""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import ip_address

import pytest
from aioice import stun as oracle
from hypothesis import given
from hypothesis import strategies as st
from server_client import run

from rxnet.errors import ConfigError
from rxnet.server.stun import StunServer, respond


def request(*attributes: tuple[int, bytes], kind: int = 0x0001, fingerprint: bool = False) -> bytes:
    body = b"".join(struct.pack("!HH", t, len(v)) + v + bytes(-len(v) % 4) for t, v in attributes)
    header = struct.pack("!HHI", kind, len(body), 0x2112A442) + b"transaction!"
    if not fingerprint:
        return header + body
    message = oracle.parse_message(header + body)
    message.add_fingerprint()
    return bytes(message)


def test_rfc5769_address_encoding_v4_and_v6() -> None:
    # RFC 5769 sections 2.2 and 2.3 give these encodings for this transaction.
    transaction = bytes.fromhex("b7e7a701bc34d686fa87dfae")
    asked = struct.pack("!HHI", 1, 0, 0x2112A442) + transaction
    v4 = respond(asked, ("192.0.2.1", 32853))
    assert v4 is not None and v4[20:] == bytes.fromhex("00200008 0001a147e112a643")
    v6 = respond(asked, ("2001:db8:1234:5678:11:2233:4455:6677", 32853))
    assert v6 is not None
    assert v6[20:] == bytes.fromhex("00200014 0002a147 0113a9faa5d3f179bc25f4b5bed2b9d9")


def test_a_mapped_address_is_reported_as_ipv4() -> None:
    assert respond(request(), ("::ffff:192.0.2.1", 9)) == respond(request(), ("192.0.2.1", 9))


@given(st.ip_addresses(), st.integers(1, 65535), st.booleans())
def test_aioice_reads_our_answers(address: object, port: int, fingerprint: bool) -> None:
    answer = respond(request((0x8022, b"client"), fingerprint=fingerprint), (str(address), port))
    assert answer is not None
    message = oracle.parse_message(answer)  # checks the fingerprint, if there is one
    assert message.message_class == oracle.Class.RESPONSE and message.transaction_id == b"transaction!"
    host, mapped_port = message.attributes["XOR-MAPPED-ADDRESS"]
    mapped = getattr(address, "ipv4_mapped", None) or address
    assert (ip_address(host), mapped_port) == (mapped, port)
    assert ("FINGERPRINT" in message.attributes) == fingerprint


def test_a_demand_we_do_not_understand_is_error_420() -> None:
    answer = respond(request((0x0003, bytes(4)), (0x7FFF, b"x")), ("192.0.2.1", 1))
    assert answer is not None
    message = oracle.parse_message(answer)
    assert message.message_class == oracle.Class.ERROR
    assert message.attributes["ERROR-CODE"][0] == 420
    assert answer.endswith(struct.pack("!HHHH", 0x000A, 4, 0x0003, 0x7FFF))


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"nb",  # the punch of Go clients
        bytes(19),
        request(kind=0x0011),  # an indication wants no answer
        request(kind=0x0101),  # a response least of all: two servers would answer each other for ever
        request(kind=0x0003),  # allocate
        request()[:-1] + b"\0\0",
        request() + bytes(4),
        request((0x8022, b"abcd"))[:-4] + b"",
        struct.pack("!HHI", 1, 4, 0x2112A442) + b"transaction!" + struct.pack("!HH", 0x8022, 400),
        struct.pack("!HHI", 1, 0, 0x2112A443) + b"transaction!",
        request(fingerprint=True)[:-1] + b"\0",
        request((0x8028, bytes(4)), (0x8022, b"last")),
    ],
)
def test_everything_else_is_ignored(datagram: bytes) -> None:
    assert respond(datagram, ("192.0.2.1", 1)) is None


@given(st.binary(max_size=100), st.binary(max_size=80))
def test_any_bytes_are_harmless(garbage: bytes, tail: bytes) -> None:
    padded = tail + bytes(-len(tail) % 4)
    forged = struct.pack("!HHI", 1, len(padded), 0x2112A442) + b"transaction!" + padded
    for datagram in (garbage, forged):
        answer = respond(datagram, ("192.0.2.1", 1))
        assert answer is None or len(answer) <= len(datagram) + 80


async def _ask(
    family: int, bind: str, server: tuple[str, int], *datagrams: bytes
) -> tuple[bytes, tuple[str, int], int]:
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((bind, 0))
        for datagram in datagrams:
            await loop.sock_sendto(sock, datagram, server)
        answer, source = await loop.sock_recvfrom(sock, 2048)
        return answer, source[:2], sock.getsockname()[1]


@pytest.mark.parametrize(
    ("listen", "family", "local"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
        ("::1", socket.AF_INET6, "::1"),
        ("::", socket.AF_INET, "127.0.0.1"),
        ("::", socket.AF_INET6, "::1"),
        ("0.0.0.0", socket.AF_INET, "127.0.0.1"),
        # The answer leaves from the address that was asked, not from the first one of the interface.
        ("0.0.0.0", socket.AF_INET, "127.0.0.77"),
        ("::", socket.AF_INET, "127.0.0.77"),
    ],
)
def test_over_udp_garbage_is_skipped_and_the_asked_address_answers(listen: str, family: int, local: str) -> None:
    async def test() -> None:
        server = StunServer(listen, 0)
        await server.start()
        try:
            bind = "127.0.0.1" if family == socket.AF_INET else "::1"
            answer, source, port = await _ask(family, bind, (local, server.port), b"garbage", request())
            assert source == (local, server.port)
            assert oracle.parse_message(answer).attributes["XOR-MAPPED-ADDRESS"] == (bind, port)
            assert server.ignored == 1
        finally:
            await server.stop()

    run(test())


def test_a_port_in_use_is_a_clear_error_and_leaves_nothing_open() -> None:
    async def test() -> None:
        first = StunServer("127.0.0.1", 0)
        await first.start()
        second = StunServer("127.0.0.1", first.port)
        with pytest.raises(ConfigError, match=rf"port {first.port}/udp.*choose another port"):
            await second.start()
        await first.stop()
        await second.start()  # the port is free again, and the failed start can be repeated
        await second.stop()

    run(test())
