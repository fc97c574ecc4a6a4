"""Sharing the port of a userspace WireGuard without any privilege: our sockets join its SO_REUSEPORT group.

WireGuard's own sockets are duplicated for an instant (pidfd_getfd), told to share, and ours bind the same port. A cBPF
program steers STUN to ours. WireGuard must have bound before us, and cannot bind again while we are there: so its
`listen_port` is never written while this is open, and this is closed before the device goes.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import struct
from pathlib import Path
from typing import ClassVar, Final

from rxnet.ice import filter
from rxnet.ice.packets import MAGIC, Address, split_stun
from rxnet.ice.port import StunPort, set_ttl

_SYS_PIDFD_GETFD: Final = 438  # the same on all architectures: it is younger than their common table
_SOL_UDP: Final = 17
_UDP_GRO: Final = 104
_IP_PKTINFO: Final = 8
_IPV6_V6ONLY_ANY: Final = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}

_libc = ctypes.CDLL(None, use_errno=True)


class ReusePort(StunPort):
    """:raises OSError: the sockets cannot be shared, or WireGuard has none on this port yet."""

    method: ClassVar[str] = "reuseport"

    def __init__(self, port: int, wireguard_pid: int) -> None:
        super().__init__(port)
        theirs = _sockets_of(wireguard_pid, port)
        try:
            if not theirs:
                raise OSError(f"WireGuard (process {wireguard_pid}) has no UDP socket on it")
            for other in theirs.values():
                self._add(_join(other, port))
        except BaseException:
            self.close()
            raise
        finally:
            # A duplicate that stayed open would make WireGuard's next bind fail.
            for other in theirs.values():
                other.close()

    def _receive(self, sock: socket.socket) -> None:
        length, ancillary, _, source = sock.recvmsg_into([self._buffer], 128)
        local, size = "", 0
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                local = socket.inet_ntoa(data[8:12])
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                local = socket.inet_ntop(socket.AF_INET6, data[:16])
            elif level == _SOL_UDP and kind == _UDP_GRO:
                size = struct.unpack("=i", data[:4])[0]
        address = (source[0].partition("%")[0], source[1])
        for start in range(0, length, size or length):
            part = bytes(memoryview(self._buffer)[start : min(start + (size or length), length)])
            if part[4:8] != MAGIC:
                self.counters.wireguard_taken += 1
                continue
            for message in split_stun(part)[0]:
                self.demux.dispatch(message, address, local)

    def _send(self, data: bytes, local: str, target: Address) -> None:
        if ":" in local:
            info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, socket.inet_pton(socket.AF_INET6, local) + bytes(4))
            self._sockets[socket.AF_INET6].sendmsg([data], [info], 0, target)
        else:
            source = struct.pack("=i4s4s", 0, socket.inet_aton(local), bytes(4))
            self._sockets[socket.AF_INET].sendmsg([data], [(socket.IPPROTO_IP, _IP_PKTINFO, source)], 0, target)


def _sockets_of(pid: int, port: int) -> dict[int, socket.socket]:
    """Duplicates of the UDP sockets that a process has bound to a port, by family."""
    inodes = set()
    for table in ("udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(int(fields[9]))
    found: dict[int, socket.socket] = {}
    pidfd = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{name}"))
            except OSError:
                continue  # closed meanwhile
            if target is not None and int(target[1]) in inodes:
                duplicate = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, int(name), 0)
                if duplicate < 0:
                    code = ctypes.get_errno()
                    raise OSError(code, f"no access to WireGuard's sockets ({os.strerror(code)})")
                sock = socket.socket(fileno=duplicate)
                found[sock.family] = sock
    except BaseException:
        for sock in found.values():
            sock.close()
        raise
    finally:
        os.close(pidfd)
    return found


def _join(theirs: socket.socket, port: int) -> socket.socket:
    """A socket of ours in the group of WireGuard's: index 1, WireGuard's is 0."""
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # allowed after bind
    ours = socket.socket(theirs.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # GRO asks any member of the group, picked by hash: if they differ, some flows lose it.
        ours.setsockopt(_SOL_UDP, _UDP_GRO, theirs.getsockopt(_SOL_UDP, _UDP_GRO))
        if theirs.family == socket.AF_INET6:
            ours.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            ours.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            ours.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        set_ttl(ours)
        # Until the group has its program the kernel spreads packets by hash: let only STUN into ours.
        filter.attach(ours, filter.only_stun())
        ours.bind((_IPV6_V6ONLY_ANY[theirs.family], port))
        filter.attach(ours, filter.steer(), filter.SO_ATTACH_REUSEPORT_CBPF)
        # Or merged packets with STUN at their end would be dropped.
        ours.setsockopt(socket.SOL_SOCKET, filter.SO_DETACH_FILTER, 0)
    except BaseException:
        ours.close()
        raise
    return ours
