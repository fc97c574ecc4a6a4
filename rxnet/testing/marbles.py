"""Marble tests: the diagram in a test's docstring is the test.

::

    @marbles
    def test_signal_is_dialled_when_its_address_is_known() -> None:
        '''Management names signal's address at login; that event, and nothing else, starts the dial.

        given: up, network

        > management  --L----
        = signal      --D----
        '''

See docs/testing.md for the language and docs/marbles.md for every diagram of the engine's own tests.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, overload

from rxnet.engine.engine import Engine
from rxnet.engine.inbox import Step
from rxnet.engine.state import State
from rxnet.testing.bench import Bench
from rxnet.testing.diagram import Diagram, DiagramError, Lane, parse
from rxnet.testing.drivers import VirtualDrivers, Work
from rxnet.testing.inputs import INPUTS, Hand
from rxnet.testing.outputs import OUTPUTS, Scribe
from rxnet.testing.virtual import VirtualScheduler

_DIGITS: Final = 6
"""Times that agree to a microsecond are one instant."""

_EXACT: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Happened:
    """A mark that the engine made."""

    at: float
    lane: str
    symbol: str


@dataclass(eq=False)
class MarbleRun:
    """A diagram played to an engine. A test whose function takes an argument gets this one."""

    diagram: Diagram
    bench: Bench
    happened: list[Happened]

    @property
    def engine(self) -> Engine:
        return self.bench.engine

    @property
    def state(self) -> State:
        return self.bench.state

    @property
    def steps(self) -> list[Step]:
        """Every step, also those of what was given."""
        return self.bench.steps

    @property
    def drivers(self) -> VirtualDrivers:
        return self.bench.drivers

    @property
    def scheduler(self) -> VirtualScheduler:
        return self.bench.scheduler

    def marks(self, lane: str) -> str:
        """What happened on a lane, without times."""
        return "".join(mark.symbol for mark in self.happened if mark.lane == lane)

    def check(self) -> None:
        """Compare every expected lane with what happened.

        :raises AssertionError: at the first lane that differs, with both drawn under each other.
        """
        __tracebackhide__ = True  # the message says it all
        for lane in self.diagram.expected:
            difference = _difference(self, lane)
            if difference:
                raise AssertionError(_message(self, lane, difference))


def play(text: str, **options: Any) -> MarbleRun:
    """Play the diagram in a text to a new engine; `check` of what it returns compares.

    :param options: those of `Bench`.
    :raises DiagramError: if the diagram cannot be read.
    """
    diagram = parse(text)
    _check_names(diagram)
    happened: list[Happened] = []
    origin = 0.0

    def write(lane: str, symbol: str) -> None:
        happened.append(Happened(bench.scheduler.clock() - origin, lane, symbol))

    def see(work: Work) -> None:
        scribe.see_work(work)

    bench = Bench(see, **options)
    scribe = Scribe(write, lambda: bench.drivers.running)
    bench.engine.steps.subscribe(scribe.see_step)
    bench.given(diagram.given)
    happened.clear()
    origin = bench.scheduler.clock()
    _play_inputs(diagram, bench.hand, bench.scheduler)
    bench.advance((diagram.columns - 0.5) * diagram.scale)
    return MarbleRun(diagram, bench, happened)


def _play_inputs(diagram: Diagram, hand: Hand, scheduler: VirtualScheduler) -> None:
    """Schedule the inputs. Those of one instant follow each other, each when the engine is done with the one before."""
    instants: dict[int, list[tuple[str, str]]] = {}
    for lane in diagram.inputs:
        for column, marks in groupby(lane.marks, key=lambda mark: mark.column):
            symbols = "".join(mark.symbol for mark in marks)
            # A map's marks are one message; any other lane's are one each.
            played = [symbols] if lane.name.startswith("map") else list(symbols)
            instants.setdefault(column, []).extend((lane.name, turn) for turn in played)
    for column, turns in sorted(instants.items()):
        scheduler.after(column * diagram.scale, functools.partial(_play_turns, hand, scheduler, iter(turns)))


def _play_turns(hand: Hand, scheduler: VirtualScheduler, turns: Any) -> None:
    turn = next(turns, None)
    if turn is not None:
        hand.play(*turn)
        scheduler.after(0.0, functools.partial(_play_turns, hand, scheduler, turns))


def _check_names(diagram: Diagram) -> None:
    for lane in diagram.lanes:
        known = OUTPUTS if lane.expected else INPUTS
        base = lane.name.removesuffix(" late") if not lane.expected else lane.name
        first, _, rest = base.partition(" ")
        if len(first) == 1:
            base = f"p {rest}" if rest else "p"
        if base not in known:
            raise DiagramError(f'the lane "{lane.title}" is not known; known are {", ".join(known)}')
        symbols = known[base]
        for mark in lane.marks:
            named = mark.symbol in symbols or (
                "a-z" in symbols and mark.symbol.isalpha() and (mark.symbol.islower() or "A-Z" in symbols)
            )
            if not named:
                meanings = ", ".join(f"{symbol} {meaning}" for symbol, meaning in symbols.items())
                raise DiagramError(
                    f'the lane "{lane.title}" has an unknown mark "{mark.symbol}" in column {mark.column}; '
                    f"known are: {meanings}"
                )


# -- comparing ---------------------------------------------------------------------------------------------------


def _difference(run: MarbleRun, lane: Lane) -> tuple[float, str] | None:
    """The first instant at which a lane differs from what happened, and how; None if it does not."""
    drawn = [(column, _symbols(marks)) for column, marks in groupby(lane.marks, key=lambda mark: mark.column)]
    marks = [mark for mark in run.happened if mark.lane == lane.name]
    happened = [(at, _symbols(group)) for at, group in groupby(marks, key=lambda mark: round(mark.at, _DIGITS))]
    scale, tolerance = run.diagram.scale, run.diagram.tolerance
    last_drawn, last_at = 0.0, 0.0
    for (column, wanted), (at, got) in zip(drawn, happened, strict=False):
        due = column * scale
        if not _in_time(due, at, last_drawn, last_at, scale, tolerance):
            if at < due:
                return at, f"{_list(got)} happened; drawn next is {_list(wanted)} at {due:g} s"
            return due, f"{_list(wanted)} is drawn; what happened next is {_list(got)} at {at:g} s"
        if wanted != got:
            return at, f"{_list(wanted)} is drawn, {_list(got)} happened"
        last_drawn, last_at = due, at
    if len(drawn) > len(happened):
        column, wanted = drawn[len(happened)]
        return column * scale, f"{_list(wanted)} is drawn; nothing happened then or later"
    if len(happened) > len(drawn):
        at, got = happened[len(drawn)]
        return at, f"{_list(got)} happened; nothing is drawn then or later"
    return None


def _in_time(due: float, at: float, last_due: float, last_at: float, scale: float, tolerance: float) -> bool:
    """Whether something happened when it is drawn.

    What happens in a column's very instant is caused by that column's inputs and must be drawn there. What happens in
    between is a wait: it belongs to the nearest column, give or take the diagram's tolerance of that wait.
    """
    if abs(at / scale - round(at / scale)) * scale < _EXACT:
        return abs(at - due) < _EXACT
    gap = due - last_due
    return abs((at - last_at) - gap) <= scale / 2 + tolerance * gap


def _symbols(marks: Any) -> Counter[str]:
    return Counter(mark.symbol for mark in marks)


def _list(symbols: Counter[str]) -> str:
    return "".join(sorted(symbols.elements()))


# -- saying what differs -----------------------------------------------------------------------------------------


def _message(run: MarbleRun, lane: Lane, difference: tuple[float, str]) -> str:
    at, what = difference
    diagram = run.diagram
    column = min(round(at / diagram.scale), diagram.columns - 1)
    rows: list[tuple[str, str]] = [("", _ruler(diagram))]
    rows += [(other.title, line) for other in diagram.inputs for line in _rows(other.marks, diagram.columns)]
    happened = [(round(m.at / diagram.scale), m.symbol) for m in run.happened if m.lane == lane.name]
    rows += [(f"{lane.title}  drawn", line) for line in _rows(lane.marks, diagram.columns)]
    rows += [(f"{lane.title}  happened", line) for line in _stacked(happened, diagram.columns)]
    rows.append(("", " " * column + "^"))
    width = max(len(title) for title, _ in rows)
    drawing = "\n".join(f"    {title.ljust(width)}  {line}".rstrip() for title, line in rows)
    return (
        f'the lane "{lane.title}" is not as drawn (1 char = {diagram.scale:g} s)\n\n{drawing}\n\n  at {at:g} s: {what}'
    )


def _rows(marks: Any, columns: int) -> list[str]:
    return _stacked([(mark.column, mark.symbol) for mark in marks], columns)


def _stacked(marks: list[tuple[int, str]], columns: int) -> list[str]:
    """Draw marks; those of one column one below the other."""
    rows: list[list[str]] = []
    taken: Counter[int] = Counter()
    for column, symbol in marks:
        column = min(column, columns - 1)
        level = taken[column]
        taken[column] += 1
        if level == len(rows):
            rows.append(["-"] * columns)
        rows[level][column] = symbol
    return ["".join(row) for row in rows] or ["-" * columns]


def _ruler(diagram: Diagram) -> str:
    line = [" "] * diagram.columns
    for column in range(0, diagram.columns, 10):
        for i, digit in enumerate(f"{column * diagram.scale:g}"):
            if column + i < diagram.columns:
                line[column + i] = digit
    return "".join(line)


# -- the decorator -----------------------------------------------------------------------------------------------

Test = Callable[..., None]


@overload
def marbles(test: Test, /) -> Test: ...
@overload
def marbles(**options: Any) -> Callable[[Test], Test]: ...
def marbles(test: Test | None = None, /, **options: Any) -> Test | Callable[[Test], Test]:
    """Make a test of the diagram in a function's docstring.

    The diagram is played and checked; then the function runs, for whatever a drawing cannot say. If it takes an
    argument, it gets the `MarbleRun`. Options are those of `Bench`.
    """
    if test is None:
        return lambda function: _made(function, options)
    return _made(test, options)


def _made(function: Test, options: dict[str, Any]) -> Test:
    text = inspect.getdoc(function) or ""
    takes_run = bool(inspect.signature(function).parameters)

    def run_it() -> None:
        run = play(text, **options)
        try:
            run.check()
            if takes_run:
                function(run)
            else:
                function()
        finally:
            run.bench.close()

    functools.update_wrapper(run_it, function)
    del run_it.__wrapped__  # type: ignore[attr-defined]  # pytest would take the argument for a fixture
    run_it.__marbles__ = text  # type: ignore[attr-defined]
    return run_it
