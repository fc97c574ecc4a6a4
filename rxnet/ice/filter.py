"""Classic BPF programs that pick STUN out of the traffic of WireGuard's port. Instructions: (code, jt, jf, k).

Each looks at the first datagram of a packet, and, because a receiving network card may merge datagrams (GRO), at the
60 places where a shorter STUN message that ends the packet would have its cookie. That covers Go peers, who send STUN
with the same TTL as WireGuard; ours differs in TTL, which keeps it from being merged in the first place.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import Final

from rxnet.ice.packets import COOKIE

Instruction = tuple[int, int, int, int]
Program = Sequence[Instruction]

LD_W_ABS: Final = 0x20
LD_H_ABS: Final = 0x28
LD_W_IND: Final = 0x40
LD_H_IND: Final = 0x48
LD_LEN: Final = 0x80
LDX_MSH: Final = 0xB1
TAX: Final = 0x07
JEQ: Final = 0x15
RET: Final = 0x06

SO_ATTACH_FILTER: Final = 26
SO_DETACH_FILTER: Final = 27
SO_ATTACH_REUSEPORT_CBPF: Final = 51

ALL: Final = 0xFFFF
_LONGEST_TAIL = 256


def tail_scan(accept: int, reject: int) -> list[Instruction]:
    """Return `accept` if a STUN message of 20 to 256 bytes ends the packet, else `reject`.

    A place before the packet's start ends the program with 0, which both users mean by `reject` anyway.
    """
    program: list[Instruction] = [(LD_LEN, 0, 0, 0), (TAX, 0, 0, 0)]
    for size in range(20, _LONGEST_TAIL + 1, 4):
        program += [(LD_W_IND, 0, 0, (4 - size) & 0xFFFFFFFF), (JEQ, 0, 1, COOKIE), (RET, 0, 0, accept)]
    return [*program, (RET, 0, 0, reject)]


def raw_v4(port: int) -> list[Instruction]:
    """For a raw IPv4 socket: data begins with the IP header, of any length."""
    return [
        (LDX_MSH, 0, 0, 0),  # X = length of the IP header
        (LD_H_IND, 0, 0, 2),  # destination port
        (JEQ, 1, 0, port),
        (RET, 0, 0, 0),
        (LD_W_IND, 0, 0, 12),  # payload[4:8]
        (JEQ, 0, 1, COOKIE),
        (RET, 0, 0, ALL),
        *tail_scan(ALL, 0),
    ]


def raw_v6(port: int) -> list[Instruction]:
    """For a raw IPv6 socket: data begins with the UDP header."""
    return [
        (LD_H_ABS, 0, 0, 2),
        (JEQ, 1, 0, port),
        (RET, 0, 0, 0),
        (LD_W_ABS, 0, 0, 12),
        (JEQ, 0, 1, COOKIE),
        (RET, 0, 0, ALL),
        *tail_scan(ALL, 0),
    ]


def steer() -> list[Instruction]:
    """For a SO_REUSEPORT group: index 1 (ours) for STUN, 0 (WireGuard's) for the rest. Data begins with the payload."""
    return [(LD_W_ABS, 0, 0, 4), (JEQ, 0, 1, COOKIE), (RET, 0, 0, 1), *tail_scan(1, 0)]


def only_stun() -> list[Instruction]:
    """For our socket in the instant before its group is steered: STUN at the head. Data begins with the UDP header."""
    return [(LD_W_ABS, 0, 0, 12), (JEQ, 0, 1, COOKIE), (RET, 0, 0, ALL), (RET, 0, 0, 0)]


def attach(sock: socket.socket, program: Program, option: int = SO_ATTACH_FILTER) -> None:
    """Give a socket, or with SO_ATTACH_REUSEPORT_CBPF its group, a program.

    :raises OSError: the kernel refuses it.
    """
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))  # the kernel copies it during the call
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@HP", len(program), ctypes.addressof(buffer)))
