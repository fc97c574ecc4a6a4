"""Small questions to the host about interfaces, ports, rights and processes. No state."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from pathlib import Path

from rxnet.errors import DeviceError

CAP_NET_ADMIN = 12
_TUN = "/dev/net/tun"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def has_capability(number: int) -> bool:
    """Whether this process may use a capability now (capabilities(7); /proc/self/status, CapEff)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def check_rights() -> None:
    """See that an interface can be made at all.

    :raises DeviceError: names what is missing and the mend.
    """
    if not has_capability(CAP_NET_ADMIN):
        raise DeviceError(
            "no right to make a network interface: run as root, or give the service CAP_NET_ADMIN "
            "(systemd: AmbientCapabilities=CAP_NET_ADMIN)"
        )
    if not os.path.exists(_TUN):
        raise DeviceError(
            f"{_TUN} is missing: load the module (modprobe tun), or give the container the device "
            "(docker: --device /dev/net/tun)"
        )
    if not os.access(_TUN, os.R_OK | os.W_OK):
        raise DeviceError(f"{_TUN} cannot be opened: give this user the right to read and write it")


def interface_exists(name: str) -> bool:
    """Whether the network namespace has an interface of this name."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def set_up(name: str) -> None:
    """Set an interface up.

    :raises DeviceError: there is no such interface or no right to do so.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            request = bytearray(struct.pack("16sH22x", name.encode(), 0))
            fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
            flags = struct.unpack_from("H", request, 16)[0]
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | _IFF_UP))
        except OSError as error:
            raise DeviceError(f"interface {name} cannot be set up: {error.strerror}") from None


def port_is_free(port: int) -> bool:
    """Whether a UDP port can be bound on all addresses, of both families where IPv6 is there."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError:
            continue
        with sock:
            try:
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address, port))
            except OSError:
                return False
    return True


def own_mounts(pid: int) -> bool:
    """Whether a process has another mount namespace than ours."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    except OSError:
        return False
