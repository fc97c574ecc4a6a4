"""The table at the end: each peer of the first host, then the figures of the run. Nothing that was not measured."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rxnet.demo.facts import Facts, PeerFacts

NOT: Final = "n/a"
_NAMES: Final = 16
"""Columns for the names of figures."""


def tables(facts: Facts, width: int, *, ascii_only: bool = False) -> RenderableType:
    """Both parts, with the reasons for missing figures below."""
    parts: list[RenderableType] = [Text(), _peers(facts, ascii_only), Text(), _figures(facts, width), Text()]
    parts.append(Text("ping after, path after: seconds from the link's return to first ping, new path", "dim"))
    parts += [Text(f"{NOT}: {line}", "dim") for line in _reasons(facts)]
    return Group(*parts)


def _peers(facts: Facts, ascii_only: bool) -> Table:
    look = box.ASCII2 if ascii_only else box.SIMPLE_HEAD
    table = Table(box=look, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("peer")
    table.add_column("h1's end of the path\nthe peer's end", overflow="fold")
    for head in ("ping\nv4 ms", "ping\nv6 ms"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("pending\noffer", no_wrap=True)
    for head in ("ping\nafter s", "path\nafter s"):
        table.add_column(head, justify="right", no_wrap=True)
    for peer in facts.peers:
        table.add_row(
            peer.name + (" frozen" if peer.silent else ""), _path(peer), figure(peer.ping_ms),
            figure(peer.ping_v6_ms), "cancelled" if peer.offer_cancelled else "-",
            figure(peer.first_ping_after, 3), figure(peer.connected_after, 3),
        )  # fmt: skip
    return table


def _path(peer: PeerFacts) -> str:
    if peer.path is None:
        return NOT
    return "{local} {local_type}\n{remote} {remote_type}".format(**peer.path)


def _figures(facts: Facts, width: int) -> Text:
    lines: list[str] = []
    for name, value in figures(facts):
        lines += textwrap.wrap(value, width, initial_indent=f"{name:<{_NAMES}}", subsequent_indent=" " * _NAMES)
    return Text("\n".join(lines))


def figures(facts: Facts) -> Iterator[tuple[str, str]]:
    """The figures of the run, for people."""
    cut, back, outage, frozen = facts.cut, facts.recovery, facts.signal_outage, facts.frozen
    yield "link cut", f"{seconds(cut.seconds)}; rxnet knew after {milliseconds(cut.network_down_after, 1000)}"
    yield (
        "cancelled",
        (
            f"{count(cut.cancelled)} pending, {milliseconds(cut.cancelled_after_event, 1000)} later; "
            f"then {count(cut.messages_while_down)} messages until the link was back"
        ),
    )
    yield "link back", f"signal connected after {seconds(back.signal_after)}"
    yield (
        "started again",
        (f"{count(back.started)} peers, after {seconds(back.started_after)}, by {back.started_by or NOT}"),
    )
    yield (
        "signal away",
        (
            f"{seconds(outage.seconds)}; {outage.pings_answered} of {outage.pings_sent} pings answered, "
            f"{count(outage.peers_lost)} peers lost"
        ),
    )
    yield (
        "Python stopped",
        (
            f"{frozen.processes} processes for {seconds(frozen.seconds)}; "
            f"{frozen.pings_answered} of {frozen.pings_sent} pings answered"
        ),
    )
    carried = [packets for packets in facts.packets if packets.tunnel_received is not None]
    through = [packets.through_python for packets in facts.packets]
    total = sum((p.tunnel_received or 0) + (p.tunnel_sent or 0) for p in carried)
    python = sum(t for t in through if t is not None)
    known = bool(through) and None not in through
    yield (
        "tunnel packets",
        (
            f"{total if carried else NOT} on {len(carried)} interfaces (kernel), "
            f"{python if known else NOT} through Python (driver)"
        ),
    )


def _reasons(facts: Facts) -> Iterator[str]:
    for peer in facts.peers:
        if peer.reason:
            yield f"{peer.name}: {peer.reason}"
    yield from sorted({f"packets: {packets.reason}" for packets in facts.packets if packets.reason})


def figure(value: float | None, digits: int = 2) -> str:
    """A number whose unit is in the table's head."""
    return NOT if value is None else f"{value:.{digits}f}"


def milliseconds(value: float | None, factor: float = 1.0) -> str:
    """A time in milliseconds; `factor` turns the value into them."""
    return NOT if value is None else f"{value * factor:.2f} ms"


def seconds(value: float | None) -> str:
    """A time in seconds."""
    return NOT if value is None else f"{value:.3f} s"


def count(value: int | None) -> str:
    """A number of things."""
    return NOT if value is None else str(value)
