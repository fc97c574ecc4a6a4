"""The overlay's addresses, MTU and routes on our own interface, always as the difference to what is there.

Nothing is flushed: an address that stays is not touched, so connections over it live on. All of it goes when the
interface goes, so it needs no journal; only on an interface that we did not make ourselves each address is recorded.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any, Final

from rxnet.engine.effects import AssignAddresses
from rxnet.errors import RxnetError
from rxnet.events import AddressesAssigned, DeviceRefused, Event
from rxnet.model import IPNetwork, LocalPeer
from rxnet.namespaces import network_namespace
from rxnet.system.iproute import open_iproute, refusal
from rxnet.system.journal import Journal
from rxnet.system.netlink import Netlink
from rxnet.system.network_state import ROUTING_PROTOCOL
from rxnet.system.rtnetlink import Link
from rxnet.system.undo import ADDRESS, LINK, USERSPACE_WIREGUARD

Interface = IPv4Interface | IPv6Interface

_LIMIT: Final = 10.0
_IFA_F_NODAD: Final = 0x02
_SCOPE_LINK: Final = 253
_SCOPE_ANY: Final = 255
"""RT_SCOPE_NOWHERE: in a removal it stands for every scope."""
_ROUNDS: Final = 3
"""One is usual. Removing an address may take others with it (IPv4 secondaries), or must come before adding (the same
IPv6 address with another prefix length): the next round sees and mends it."""

_MENDS: Final = {
    errno.EPERM: "not permitted: run as root, or give the service CAP_NET_ADMIN",
    errno.EACCES: "IPv6 is disabled on this host (sysctl net.ipv6.conf.*.disable_ipv6)",
    errno.EOPNOTSUPP: "this kernel has no IPv6",
    errno.EAFNOSUPPORT: "this kernel has no IPv6",
    errno.EINVAL: "the kernel refuses the value",
}


class HostAddresses:
    """Driver of `AssignAddresses`.

    :param journal: of host changes; None: changes to an interface that is not ours are not recorded.
    :param interface: gives the name of the open interface; empty: none is open.
    """

    def __init__(self, journal: Journal | None, interface: Callable[[], str]) -> None:
        self._journal = journal
        self._interface = interface

    async def assign_addresses(self, effect: AssignAddresses) -> AsyncIterator[Event]:
        """Give the open interface what management says. Reports one `DeviceRefused` for each change that failed; the
        others are made, and at the end one `AddressesAssigned`."""
        name = self._interface()
        job = _Assignment(name, effect.local, self._journal)
        try:
            async with asyncio.timeout(_LIMIT):
                await job.run()
        except TimeoutError:
            job.refuse("addresses", f"the kernel did not answer within {_LIMIT:g} s")
        except RxnetError as error:
            job.refuse("addresses", str(error))
        except _Gone:
            job.refuse("addresses", f"interface {name} is gone" if name else "no interface is open")
        for event in job.refusals:
            yield event
        refused = "; ".join(f"{event.what}: {event.reason}" for event in job.refusals)
        yield AddressesAssigned(effect.generation, effect.attempt, refused)


class _Gone(Exception):
    """The interface does not exist any more."""


class _Assignment:
    """One effect's work: look, compare, change, and look again while something was changed."""

    def __init__(self, name: str, local: LocalPeer, journal: Journal | None) -> None:
        self._name = name
        self._local = local
        self._journal = journal
        self._wanted: set[Interface] = {local.address} | ({local.address_v6} if local.address_v6 else set())
        self._refused: dict[str, str] = {}

    @property
    def refusals(self) -> list[DeviceRefused]:
        return [DeviceRefused(what, reason) for what, reason in self._refused.items()]

    def refuse(self, what: str, reason: str) -> None:
        self._refused[what] = reason

    async def run(self) -> None:
        """:raises _Gone: the interface vanished.
        :raises RxnetError: the kernel cannot be asked.
        """
        with Netlink() as kernel:
            link = await self._look(kernel)
            async with open_iproute() as route:
                await self._link(route, link)
                for _ in range(_ROUNDS):
                    if not await self._addresses(kernel, route, link):
                        break
                await self._routes(kernel, route, link)

    async def _look(self, kernel: Netlink) -> Link:
        found = next((link for link in await kernel.links() if self._name and link.name == self._name), None)
        if found is None:
            raise _Gone
        return found

    async def _link(self, route: Any, link: Link) -> None:
        # The MTU first: IPv6 does not start on an interface with less than 1280.
        if link.mtu != self._local.mtu:
            await self._change(f"mtu {self._local.mtu}", route.link("set", index=link.index, mtu=self._local.mtu))
        if not link.up:
            await self._change("link up", route.link("set", index=link.index, state="up"))

    async def _addresses(self, kernel: Netlink, route: Any, link: Link) -> bool:
        """Add what lacks, then remove what is too much; tells whether anything was done.

        In this order because an interface that loses its last IPv4 address loses all its IPv4 routes.
        """
        there = await interface_addresses(kernel, link.index)
        lacking, surplus = sorted(self._wanted - there, key=str), sorted(self._surplus(there), key=str)
        for address in lacking:
            blocked = any(address.ip == other.ip for other in surplus)
            if not blocked:
                await self._add(route, link, address)
        for address in surplus:
            call = route.addr("del", index=link.index, address=str(address.ip), prefixlen=_length(address))
            if await self._change(f"removal of address {address}", call):
                self._unrecord(address)
        return bool(lacking or surplus)

    def _surplus(self, there: Collection[Interface]) -> set[Interface]:
        """What is to go. On an interface of somebody else's only what the journal says we put there."""
        if self._owned():
            return set(there) - self._wanted
        recorded = set(self._recorded().values())
        return {address for address in there if str(address) in recorded} - self._wanted

    async def _add(self, route: Any, link: Link, address: Interface) -> None:
        if address.version == 6 and self._local.mtu < 1280:
            self.refuse(f"address {address}", f"IPv6 needs an MTU of 1280, and this overlay has {self._local.mtu}")
            return
        entry = None
        if self._journal is not None and not self._owned() and str(address) not in self._recorded().values():
            entry = self._journal.record(
                kind=ADDRESS, name=link.name, index=link.index, address=str(address), namespace=network_namespace()
            )
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        length, flags = _length(address), 0 if address.version == 4 else _IFA_F_NODAD
        arguments = {"address": str(address.ip), "prefixlen": length, "family": family}
        call = route.addr("add", index=link.index, flags=flags, **arguments)
        if not await self._change(f"address {address}", call) and entry is not None and self._journal is not None:
            self._journal.done(entry)

    async def _routes(self, kernel: Netlink, route: Any, link: Link) -> None:
        """The overlay's own networks: the kernel makes these routes with the addresses, others may remove them."""
        wanted = {a.network: a for a in self._wanted if a.network.prefixlen < a.max_prefixlen}
        there: dict[IPNetwork, int] = {}
        for known in await kernel.routes(link.index):
            if any(hop.index == link.index and hop.gateway is None for hop in known.hops):
                there[known.destination] = known.protocol
        for network, address in wanted.items():
            if network not in there and f"address {address}" not in self._refused:
                # With the address as preferred source it goes when the address goes, like the kernel's own.
                more = {"prefsrc": str(address.ip), "scope": _SCOPE_LINK} if address.version == 4 else {}
                call = route.route("add", dst=str(network), oif=link.index, proto=ROUTING_PROTOCOL, **more)
                await self._change(f"route {network}", call)
        for network, protocol in there.items():
            if protocol == ROUTING_PROTOCOL and network not in wanted:
                call = route.route("del", dst=str(network), oif=link.index, proto=ROUTING_PROTOCOL, scope=_SCOPE_ANY)
                await self._change(f"removal of route {network}", call)

    async def _change(self, what: str, call: Awaitable[Any]) -> bool:
        """Make one change; one that fails is noted and does not stop the others.

        :raises _Gone: the interface vanished.
        """
        try:
            await call
        except Exception as error:
            code = refusal(error)
            if code in (errno.ENODEV, errno.ENXIO):
                raise _Gone from None
            # Already as wanted: somebody was faster, or the kernel took it away with something else.
            if code in (errno.EEXIST, errno.EADDRNOTAVAIL, errno.ESRCH):
                return True
            self.refuse(what, _MENDS.get(code, os.strerror(code).lower()))
            return False
        self._refused.pop(what, None)
        return True

    # -- the journal, for interfaces that are not ours ---------------------------------------------------------------

    def _owned(self) -> bool:
        """Whether we made the interface (or keep no journal, and take it for ours)."""
        made = (USERSPACE_WIREGUARD, LINK)
        journal = self._journal
        return journal is None or any(e.kind in made and e.fields.get("name") == self._name for e in journal.pending())

    def _recorded(self) -> dict[int, str]:
        """Addresses that we put on the interface, by entry."""
        entries = self._journal.pending() if self._journal is not None else ()
        return {
            e.id: str(e.fields.get("address"))
            for e in entries
            if e.kind == ADDRESS and e.fields.get("name") == self._name
        }

    def _unrecord(self, address: Interface) -> None:
        for entry, text in self._recorded().items():
            if text == str(address) and self._journal is not None:
                self._journal.done(entry)


def _length(address: Interface) -> int:
    return address.network.prefixlen


async def interface_addresses(kernel: Netlink, index: int) -> set[Interface]:
    """The addresses of one interface, IPv6 link-local ones left out: those belong to the kernel."""
    return {
        IPv4Interface((a.address, a.prefix_length))
        if a.address.version == 4
        else IPv6Interface((a.address, a.prefix_length))
        for a in await kernel.addresses()
        if a.index == index and not (a.address.version == 6 and a.address.is_link_local)
    }


async def host_ranges(own: Collection[str]) -> tuple[tuple[str, IPNetwork], ...]:
    """The address ranges of the host's other interfaces, containers' bridges included, for `network_state.overlap`.

    :param own: names of our own interfaces.
    :raises RxnetError: the kernel cannot be asked.
    """
    with Netlink() as kernel:
        names = {link.index: link.name for link in await kernel.links() if link.up and not link.loopback}
        ranges = []
        for index, name in names.items():
            if name not in own:
                ranges += [(name, address.network) for address in await interface_addresses(kernel, index)]
    return tuple(sorted(ranges, key=str))
