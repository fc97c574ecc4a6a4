"""Which netlink messages are worth reading the tables again for: datagrams in, "stale" out, no sockets.

The kernel's messages are a hint, not a ledger: it does not announce IPv4 routes that vanish with their link, and drops
messages when a socket's buffer is full. So they are never added up; they only tell whether what was read last can
still be true. What repeats a known fact (lifetimes of addresses renewed by router advertisements, statistics, wireless
events) or concerns an ignored interface is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from rxnet.errors import ProtocolError
from rxnet.model import HostNetwork, IPAddress
from rxnet.system import rtnetlink, rtnetlink_decode
from rxnet.system.network_state import ROUTING_PROTOCOL, IgnoredInterfaces, host_network, matters
from rxnet.system.rtnetlink import InterfaceAddress, Link, Message, NextHop, Route, Rule

_NLMSG_OVERRUN = 4


class Notifications:
    """What was read last, and whether messages since then put it in doubt.

    :param own: gives the names of our own interfaces, at any time.
    """

    def __init__(self, ignored: IgnoredInterfaces, own: Callable[[], Collection[str]]) -> None:
        self.stale = True
        """Links, addresses and routes are to be read."""
        self.stale_rules = True
        """Policy rules are to be read."""
        self.returned: set[int] = set()
        """Indices of interfaces whose carrier came back; emptied by whoever acts on it."""
        self.reading = False
        """A reading is under way: nobody can tell whether it contains what a message says, so no message is passed
        over as known."""
        self._ignored = ignored
        self._own = own
        self._links: dict[int, Link] = {}
        self._addresses: frozenset[tuple[int, IPAddress]] = frozenset()
        self._hops: frozenset[tuple[NextHop, int]] = frozenset()
        self._routes: tuple[Route, ...] = ()
        self._rules: tuple[Rule, ...] = ()
        self._usable: tuple[InterfaceAddress, ...] = ()

    def lose_track(self) -> None:
        """Messages were lost: nothing known can be relied on."""
        self.stale = self.stale_rules = True

    # -- what was read ---------------------------------------------------------------------------------------------

    def read(self, links: Iterable[Link], addresses: Iterable[InterfaceAddress], routes: Iterable[Route]) -> None:
        """Take a reading of everything but the rules."""
        before, self._links = self._links, {link.index: link for link in links}
        self.returned |= {i for i, link in self._links.items() if i in before and self._returned(before[i], link)}
        self._usable = tuple(a for a in addresses if a.usable and matters(a.address))
        self._addresses = frozenset((a.index, a.address) for a in self._usable)
        self._routes = tuple(routes)
        self._hops = frozenset((hop, route.metric) for route in self._routes for hop in route.hops)

    def read_rules(self, rules: Iterable[Rule]) -> None:
        """Take a reading of the rules."""
        self._rules = tuple(rules)

    def network(self) -> HostNetwork:
        """What was read last, normalised."""
        links = self._links.values()
        return host_network(links, self._usable, self._routes, self._rules, self._ignored, self._own())

    def indices(self, name: str) -> Iterator[int]:
        """The index of the interface of this name, if there is one."""
        return (index for index, link in self._links.items() if link.name == name)

    # -- what the kernel says --------------------------------------------------------------------------------------

    def hear(self, datagram: bytes | memoryview) -> None:
        """Take a datagram of the kernel. One that cannot be read puts everything in doubt."""
        try:
            for message in rtnetlink.messages(datagram):
                self._hear(message)
        except ProtocolError:
            self.lose_track()

    def _hear(self, message: Message) -> None:
        match message.type:
            case rtnetlink.RTM_NEWROUTE | rtnetlink.RTM_DELROUTE:
                if rtnetlink_decode.is_main_default(message.payload):
                    self._hear_route(message)
            case rtnetlink.RTM_NEWADDR | rtnetlink.RTM_DELADDR:
                self._hear_address(message)
            case rtnetlink.RTM_NEWLINK | rtnetlink.RTM_DELLINK:
                self._hear_link(message)
            case rtnetlink.RTM_NEWRULE | rtnetlink.RTM_DELRULE:
                rule = rtnetlink_decode.decode_rule(message.payload)
                if rule is not None and rule.protocol != ROUTING_PROTOCOL:
                    self.stale_rules = True
            case _ if message.type == _NLMSG_OVERRUN:
                self.lose_track()

    def _hear_link(self, message: Message) -> None:
        link = rtnetlink_decode.decode_link(message.payload)
        if link is None:
            return
        before = self._links.get(link.index)
        if message.type == rtnetlink.RTM_DELLINK:
            self._links.pop(link.index, None)
            changed = bool(self._works(before))
        else:
            self._links[link.index] = link
            changed = self._works(before) != self._works(link)
            if before is not None and self._returned(before, link):
                self.returned.add(link.index)
        if changed or (self.reading and not self._passed_over(link)):
            self.stale = True

    def _hear_address(self, message: Message) -> None:
        address = rtnetlink_decode.decode_address(message.payload)
        if address is None or not matters(address.address) or self._passed_over(self._links.get(address.index)):
            return
        usable = address.usable and message.type == rtnetlink.RTM_NEWADDR
        if self.reading or usable != ((address.index, address.address) in self._addresses):
            self.stale = True

    def _hear_route(self, message: Message) -> None:
        route = rtnetlink_decode.decode_route(message.payload)
        if route is None or all(self._passed_over(self._links.get(hop.index)) for hop in route.hops):
            return
        # A replacement removes another route without a word about it.
        new = message.type == rtnetlink.RTM_NEWROUTE
        replaces = new and message.flags & rtnetlink.NLM_F_REPLACE
        known = [(hop, route.metric) in self._hops for hop in route.hops]
        if self.reading or replaces or (not all(known) if new else any(known)):
            self.stale = True

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _passed_over(self, link: Link | None) -> bool:
        """An unknown interface counts until it was read."""
        return link is not None and self._ignored.covers(link, self._own())

    def _works(self, link: Link | None) -> str:
        """The name under which an interface counts as working; empty: it does not."""
        return link.name if link is not None and link.up and link.carrier and not self._passed_over(link) else ""

    def _returned(self, before: Link, after: Link) -> bool:
        return not (before.up and before.carrier) and bool(self._works(after))
