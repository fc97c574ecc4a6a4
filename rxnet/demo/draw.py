"""Lanes and an axis to rows of characters, each with the name of its style. Pure; colours are the screen's affair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rxnet.demo.axis import Axis
from rxnet.demo.marbles import Lane, Line, Mark, Timeline


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of the picture."""

    marks: Mapping[Mark, str]
    lines: Mapping[Line, str]
    more: str


UNICODE: Final = Glyphs(
    {Mark.NEWS: "◆", Mark.FAILED: "x", Mark.OFFER: "○", Mark.UP: "●", Mark.LOST: "✕", Mark.CANCELLED: "⊘"},
    {Line.UNKNOWN: "┈", Line.UP: "━", Line.HELD: "╍", Line.PENDING: "┄", Line.DOWN: "·"},
    "…",
)
ASCII: Final = Glyphs(
    {Mark.NEWS: "*", Mark.FAILED: "x", Mark.OFFER: "o", Mark.UP: "O", Mark.LOST: "X", Mark.CANCELLED: "#"},
    {Line.UNKNOWN: ".", Line.UP: "=", Line.HELD: "~", Line.PENDING: "-", Line.DOWN: " "},
    "...",
)


@dataclass(frozen=True, slots=True)
class Span:
    """Some characters of one style: the name of a mark or a line, or `label`, `axis`, `act`."""

    text: str
    style: str


Row = tuple[Span, ...]


def picture(
    timeline: Timeline, axis: Axis, *, label: int, most_lanes: int | None = None, glyphs: Glyphs = UNICODE
) -> list[Row]:
    """The whole picture: acts, lanes, axis.

    :param label: columns for the lanes' names.
    :param most_lanes: lanes that there is room for; what is left out is counted in a last row.
    """
    lanes = timeline.lanes
    hidden = 0
    if most_lanes is not None and len(lanes) > most_lanes:
        shown = max(3, most_lanes - 1)
        lanes, hidden = _most_telling(lanes, shown), len(lanes) - shown
    rows = [_acts(timeline, axis, label)]
    rows += [(Span(_fit(_label(lane), label, glyphs), "label"), *_joined(_cells(lane, axis, glyphs))) for lane in lanes]
    if hidden:
        rows.append((Span(f"{glyphs.more} and {hidden} more peers", "axis"),))
    rows.append(_ticks(axis, label))
    return rows


def _most_telling(lanes: Sequence[Lane], count: int) -> list[Lane]:
    """The shared lanes, the peers with a note, then as many others as there is room for."""
    keep = [*lanes[:3], *(lane for lane in lanes[3:] if lane.note)][:count]
    keep += [lane for lane in lanes[3:] if lane not in keep][: count - len(keep)]
    return [lane for lane in lanes if lane in keep]


def legend(width: int, glyphs: Glyphs = UNICODE) -> list[Row]:
    """What the characters mean, in one row or two."""
    marks = {
        Mark.UP: "connected",
        Mark.LOST: "lost",
        Mark.OFFER: "offer",
        Mark.CANCELLED: "cancelled",
        Mark.NEWS: "news",
        Mark.FAILED: "failed try",
    }
    lines = {Line.UP: "up", Line.HELD: "kept", Line.PENDING: "pending", Line.DOWN: "off"}
    first = [(glyphs.marks[mark], mark.name, words) for mark, words in marks.items()]
    second = [(glyphs.lines[line] * 2, line.name, words) for line, words in lines.items()]
    whole = _entries([*first, *second])
    return [whole] if len(as_text(whole)) <= width else [_entries(first), _entries(second)]


def _entries(entries: Sequence[tuple[str, str, str]]) -> Row:
    spans: list[Span] = []
    for character, style, words in entries:
        gap = "  " if spans else ""
        spans += [Span(gap + character, style), Span(f" {words}", "axis")]
    return tuple(spans)


def label_width(lanes: Sequence[Lane], width: int) -> int:
    """Columns for the names: as many as they need, a quarter of the width at most."""
    return min(max((len(_label(lane)) for lane in lanes), default=10) + 1, max(6, width // 4))


def as_text(row: Row) -> str:
    """A row without styles."""
    return "".join(span.text for span in row).rstrip()


def _label(lane: Lane) -> str:
    return f"{lane.name} {lane.note}" if lane.note else lane.name


def _fit(text: str, width: int, glyphs: Glyphs) -> str:
    if len(text) >= width:
        text = text[: max(0, width - 1 - len(glyphs.more))] + glyphs.more
    return text.ljust(width)[:width]


def _cells(lane: Lane, axis: Axis, glyphs: Glyphs) -> Iterator[Span]:
    marbles = iter(lane.marbles)
    marble = next(marbles, None)
    for begin, end in axis.columns:
        best: Mark | None = None
        while marble is not None and marble.at < end:
            if marble.at >= begin and (best is None or marble.mark.value >= best.value):
                best = marble.mark
            marble = next(marbles, None)
        if best is not None:
            yield Span(glyphs.marks[best], best.name)
            continue
        # The state at the column's begin: what changes within it shows from the next column on.
        line = lane.line_at(begin)
        yield Span(glyphs.lines[line], line.name) if line is not None else Span(" ", "axis")


def _joined(cells: Iterator[Span]) -> Iterator[Span]:
    """Neighbours of one style as one span."""
    held: Span | None = None
    for cell in cells:
        if held is not None and held.style == cell.style:
            held = Span(held.text + cell.text, held.style)
            continue
        if held is not None:
            yield held
        held = cell
    if held is not None:
        yield held


def _acts(timeline: Timeline, axis: Axis, label: int) -> Row:
    text = [" "] * len(axis.columns)
    for at, number in timeline.acts:
        column = axis.column(at)
        if column is not None:
            text[column] = str(number % 10)
    return (Span("act".ljust(label)[:label], "axis"), Span("".join(text), "act"))


def _ticks(axis: Axis, label: int) -> Row:
    text = ""
    for column, tick in axis.ticks:
        text = text.ljust(column) + tick
    return (Span("seconds".ljust(label)[:label], "axis"), Span(text, "axis"))
