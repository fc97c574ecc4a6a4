"""How the kinds of changes that rxnet makes to a host are undone (see journal.py). Nothing is touched unless it is
recognised as ours for certain."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Final

from rxnet.errors import RxnetError
from rxnet.namespaces import network_namespace
from rxnet.system.iproute import open_iproute
from rxnet.system.journal import Entry, Journal, Undo
from rxnet.system.netlink import Netlink
from rxnet.system.processes import end_process, find_process, namespace_exists, start_time
from rxnet.system.rtnetlink import Link

USERSPACE_WIREGUARD: Final = "userspace-wireguard"
"""A WireGuard program and its interface. Fields: `name`, `program`, `namespace`, and once it runs `pid`, `started`."""
LINK: Final = "link"
"""An interface of the kernel's. Fields: `name`, `index`, `namespace`."""
ADDRESS: Final = "address"
"""An address on an interface that is not ours. Fields: `name`, `index`, `address` (with prefix length), `namespace`."""

_REBOOTED: Final = "gone with a restart of the machine"


def open_journal(directory: Path) -> Journal:
    """The journal of this state directory, open, with all kinds of changes that rxnet makes.

    :raises ConfigError: as `Journal.open`.
    """
    journal = Journal(directory, UNDOERS)
    journal.open()
    return journal


async def undo_userspace_wireguard(entry: Entry) -> str:
    """End the program, with which its interface goes, and remove the control socket that it may leave."""
    if not entry.same_boot:
        return _REBOOTED
    name = str(entry.fields["name"])
    pid, started = int(entry.fields.get("pid", 0)), int(entry.fields.get("started", 0))
    if not pid:  # we died before we could write it down
        command = [str(entry.fields.get("program", "")), "-f", name]
        pid = find_process(command, str(entry.fields.get("namespace", "")), entry.at)
        started = start_time(pid) if pid else 0
    ended = await end_process(pid, started) if pid else False
    _remove_dead_socket(Path("/var/run/wireguard") / f"{os.path.basename(name)}.sock")
    return f"process {pid} of interface {name} ended" if ended else f"interface {name} was gone"


async def undo_link(entry: Entry) -> str:
    """Delete the interface."""
    with Netlink() as kernel:
        link = await _recognised(kernel, entry)
    if link is None:
        return f"interface {entry.fields['name']} was gone"
    async with open_iproute() as route:
        await route.link("del", index=link.index)
    return f"interface {link.name} deleted"


async def undo_address(entry: Entry) -> str:
    """Remove the address."""
    text = str(entry.fields["address"])
    with Netlink() as kernel:
        link = await _recognised(kernel, entry)
        there = {f"{a.address}/{a.prefix_length}" for a in await kernel.addresses() if link and a.index == link.index}
    if link is None or text not in there:
        return f"address {text} on {entry.fields['name']} was gone"
    address, _, length = text.partition("/")
    async with open_iproute() as route:
        await route.addr("del", index=link.index, address=address, prefixlen=int(length))
    return f"address {text} on {link.name} removed"


UNDOERS: Final[dict[str, Undo]] = {
    USERSPACE_WIREGUARD: undo_userspace_wireguard,
    LINK: undo_link,
    ADDRESS: undo_address,
}


async def _recognised(kernel: Netlink, entry: Entry) -> Link | None:
    """The interface that the entry means, by index and name; None: it is gone.

    :raises RxnetError: it may still be there, but in another network namespace.
    """
    if not entry.same_boot:
        return None
    namespace = str(entry.fields["namespace"])
    if namespace != network_namespace():
        if namespace_exists(namespace):
            raise RxnetError(f"it was made in the network namespace {namespace}: run `rxnet cleanup` there")
        return None
    wanted = (int(entry.fields["index"]), str(entry.fields["name"]))
    return next((link for link in await kernel.links() if (link.index, link.name) == wanted), None)


def _remove_dead_socket(path: Path) -> None:
    """Remove a control socket at which nobody listens. Namespaces of the network share it, so a namesake may."""
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)
            try:
                asking.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
