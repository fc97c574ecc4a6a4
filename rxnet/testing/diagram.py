"""Marble diagrams as text: lanes of characters in which a column is an instant.

::

    given: up, network, login
    1 char = 1 s

    > signal   --C----X---
    = signal   D------w--D

`>` lanes are what happens, `=` lanes what the engine must do and all that it may do. `-` lets time pass. `(ab)` is two
marks in one instant, that of the bracket; its other columns pass as time. A lane may be drawn on several lines, which
are then laid upon each other, the upper first. All lanes begin in the same column and end in the same column.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rxnet.errors import RxnetError

_LANE: Final = re.compile(r"^(?P<head>\s*(?P<way>[>=])\s+(?P<name>[a-z][a-z ]*?)\s{2,})(?P<body>\S.*?)\s*$")
_LANE_LIKE: Final = re.compile(r"^\s*[>=]\s")
_SCALE: Final = re.compile(r"1 char = (?P<number>\d+(?:\.\d+)?) (?P<unit>ms|s|min)\b")
_TOLERANCE: Final = re.compile(r"± ?(?P<percent>\d+(?:\.\d+)?) ?%")
_GIVEN: Final = re.compile(r"^\s*given:\s*(?P<words>.*\S)\s*$")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0}


class DiagramError(RxnetError):
    """A marble diagram that cannot be read. The text names the lane and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One character of a lane, at its column."""

    column: int
    symbol: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane; `name` without the arrow: `p tunnel`."""

    name: str
    expected: bool
    marks: tuple[Mark, ...]

    @property
    def title(self) -> str:
        return f"{'=' if self.expected else '>'} {self.name}"


@dataclass(frozen=True, slots=True)
class Diagram:
    """A whole diagram."""

    lanes: tuple[Lane, ...]
    columns: int
    scale: float = 1.0
    """Seconds a column."""
    tolerance: float = 0.0
    """By which part a gap between two expected marks may differ, for what is drawn by chance: 0.1 is ±10 %."""
    given: tuple[str, ...] = ()
    """What is so before the first column."""

    @property
    def inputs(self) -> tuple[Lane, ...]:
        return tuple(lane for lane in self.lanes if not lane.expected)

    @property
    def expected(self) -> tuple[Lane, ...]:
        return tuple(lane for lane in self.lanes if lane.expected)


def parse(text: str) -> Diagram:
    """Read the diagram in a text, such as a docstring; other lines are prose.

    :raises DiagramError: if there is no lane, a lane cannot be read or the lanes are uneven.
    """
    lanes: dict[tuple[bool, str], list[Mark]] = {}
    extent: tuple[int, int] | None = None
    for line in text.expandtabs().splitlines():
        found = _LANE.match(line)
        if found is None:
            if _LANE_LIKE.match(line):
                raise DiagramError(f"not a lane: {line.strip()!r}; write '> name', two blanks or more, and the marks")
            continue
        title = f"{found['way']} {found['name']}"
        begin, body = len(found["head"]), found["body"]
        if extent is None:
            extent = (begin, begin + len(body))
        elif extent[0] != begin:
            raise DiagramError(f'the lane "{title}" begins in column {begin}, the lanes above it in column {extent[0]}')
        elif extent[1] != begin + len(body):
            raise DiagramError(
                f'the lane "{title}" is {len(body)} characters long, the lanes above it are {extent[1] - extent[0]}'
            )
        lanes.setdefault((found["way"] == "=", found["name"]), []).extend(_marks(title, body))
    if extent is None:
        raise DiagramError("there is no lane: write lines such as '> signal  --C--' and '= signal  D----'")
    return Diagram(
        tuple(
            Lane(name, expected, tuple(sorted(marks, key=lambda mark: mark.column)))
            for (expected, name), marks in lanes.items()
        ),
        extent[1] - extent[0],
        _scale(text),
        _tolerance(text),
        _given(text),
    )


def _marks(title: str, body: str) -> list[Mark]:
    marks, group = [], None
    for column, symbol in enumerate(body):
        if symbol == "(":
            if group is not None:
                raise DiagramError(f'the lane "{title}" opens a group within a group at column {column}')
            group = column
        elif symbol == ")":
            if group is None:
                raise DiagramError(f'the lane "{title}" closes a group that it did not open at column {column}')
            group = None
        elif symbol.isspace():
            raise DiagramError(f'the lane "{title}" has a blank at column {column}; time passes with "-"')
        elif symbol != "-":
            marks.append(Mark(column if group is None else group, symbol))
    if group is not None:
        raise DiagramError(f'the lane "{title}" does not close the group it opens at column {group}')
    return marks


def _scale(text: str) -> float:
    found = _SCALE.search(text)
    return 1.0 if found is None else float(found["number"]) * _UNITS[found["unit"]]


def _tolerance(text: str) -> float:
    for line in text.splitlines():
        if _SCALE.search(line) and (found := _TOLERANCE.search(line)):
            return float(found["percent"]) / 100
    return 0.0


def _given(text: str) -> tuple[str, ...]:
    for line in text.splitlines():
        if found := _GIVEN.match(line):
            return tuple(word.strip() for word in found["words"].split(","))
    return ()
