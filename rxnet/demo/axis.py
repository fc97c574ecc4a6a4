"""Time to columns. Pure.

Two axes: `live_axis` is to scale and moves, as a recorder's paper does; `story_axis` gives every moment a column of its
own and shortens the idle stretches, so that what came before what can be read even when it took a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

LIVE_STEP: Final = 0.25
"""Seconds in a column of the live axis."""
_TOGETHER: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Seconds within which two moments share a column, tried in this order until all fit."""
_GENEROSITY: Final = (3.0, 2.0, 1.5, 1.0, 0.6, 0.3)
"""How many columns an idle stretch gets, tried in this order."""


@dataclass(frozen=True, slots=True)
class Axis:
    """`columns` are half-open intervals of time; `ticks` are texts that begin at a column, left to right."""

    columns: tuple[tuple[float, float], ...]
    ticks: tuple[tuple[int, str], ...]

    def column(self, at: float) -> int | None:
        """The column of a time; None if it is not in the picture."""
        for index, (begin, end) in enumerate(self.columns):
            if begin <= at < end:
                return index
        return None


def live_axis(start: float, now: float, width: int, step: float = LIVE_STEP) -> Axis:
    """The last `width` columns before `now`, ticks every five seconds from `start`."""
    last = max(0, math.floor((now - start) / step))
    first = max(0, last - max(1, width) + 1)
    columns = tuple((start + k * step, start + (k + 1) * step) for k in range(first, last + 1))
    every = max(1, round(5 / step))
    ticks = [(k - first, f"{k * step:.0f}s") for k in range(first, last + 1) if k % every == 0]
    return Axis(columns, _apart(ticks, width))


def story_axis(times: Sequence[float], start: float, end: float, width: int) -> Axis:
    """All of the run: a column for each moment (moments very close together share one), idle stretches shortened."""
    moments = sorted({at for at in times if start <= at <= end} | {start})
    for together in _TOGETHER:
        clusters = _clusters(moments, together)
        for generosity in _GENEROSITY:
            idle = [_idle(b - a, generosity) for a, b in zip(clusters, [*clusters[1:], end], strict=True)]
            if len(clusters) + sum(idle) <= width:
                return _axis(clusters, idle, start, end, width)
    return _axis([start], [0], start, end, width)


def _clusters(moments: Sequence[float], together: float) -> list[float]:
    """The first moment of each group that is shorter than `together`."""
    found: list[float] = []
    for at in moments:
        if not found or at - found[-1] >= together:
            found.append(at)
    return found


def _idle(seconds: float, generosity: float) -> int:
    """Extra columns for a stretch in which nothing happened: about the logarithm of its length."""
    return max(0, round(generosity * math.log2(1 + max(0.0, seconds) / 0.5)))


def _axis(clusters: Sequence[float], idle: Sequence[int], start: float, end: float, width: int) -> Axis:
    columns: list[tuple[float, float]] = []
    places: list[tuple[int, float]] = []
    for index, begin in enumerate(clusters):
        places.append((len(columns), begin))
        until = clusters[index + 1] if index + 1 < len(clusters) else max(end, begin) + 1e-6
        parts = idle[index] + 1
        # The moment has its own narrow column, the rest of the stretch is divided evenly.
        edge = begin + min((until - begin) / parts, max(0.0, until - begin))
        edges = [begin, *(edge + (until - edge) * part / max(1, parts - 1) for part in range(parts - 1)), until]
        columns.extend(pairwise(edges))
    return Axis(tuple(columns), _story_ticks(places, start, width))


def _story_ticks(places: Sequence[tuple[int, float]], start: float, width: int) -> tuple[tuple[int, str], ...]:
    """Seconds from the start, or milliseconds from the tick before where that is close; as many as fit."""
    kept: list[tuple[int, str]] = []
    free, before = 0, -math.inf
    for column, at in places:
        close = at - before < 0.1
        text = f"+{(at - before) * 1000:.0f}ms" if close else f"{at - start:.1f}"
        if column >= free and column + len(text) <= width:
            kept.append((column, text))
            free, before = column + len(text) + 1, at
    return tuple(kept)


def _apart(ticks: Sequence[tuple[int, str]], width: int) -> tuple[tuple[int, str], ...]:
    """The ticks that fit without touching each other."""
    kept: list[tuple[int, str]] = []
    free = 0
    for column, text in ticks:
        if column >= free and column + len(text) <= width:
            kept.append((column, text))
            free = column + len(text) + 1
    return tuple(kept)
