"""Where the story is told: a terminal with a moving picture, plain text, or (with --json) the error stream.

The live picture needs a terminal that can move its cursor and may use colours. Everywhere else the acts are lines as
they happen and the picture is printed once, at the end.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from rxnet.demo.axis import live_axis, story_axis
from rxnet.demo.draw import ASCII, UNICODE, Glyphs, Row, as_text, label_width, legend, picture
from rxnet.demo.marbles import Timeline

WIDEST: Final = 140
_STYLES: Final = {
    "UP": "green",
    "LOST": "bold red",
    "OFFER": "yellow",
    "CANCELLED": "bold magenta",
    "NEWS": "cyan",
    "FAILED": "red",
    "PENDING": "yellow",
    "HELD": "dim green",
    "UNKNOWN": "dim",
    "DOWN": "dim",
    "label": "bold",
    "axis": "dim",
    "act": "bold blue",
}


class Screen:
    """Tells the story as lines. `pictures` False: without the picture and the table (they are in the document)."""

    def __init__(self, stream: TextIO, *, colours: bool, pictures: bool = True) -> None:
        self.pictures = pictures
        self.console = Console(
            file=stream, no_color=not colours, highlight=False, markup=False, emoji=False, soft_wrap=not colours,
            force_terminal=None if colours else False, width=None if colours else _width(),
        )  # fmt: skip
        self.glyphs = UNICODE if can_encode(stream) else ASCII
        self._colours = colours

    @property
    def ascii_only(self) -> bool:
        """Whether the stream takes nothing but ASCII."""
        return self.glyphs is ASCII

    @property
    def width(self) -> int:
        """Columns to draw in."""
        return max(40, min(self.console.width, WIDEST))

    def act(self, number: int, title: str) -> None:
        """Announce an act."""
        self.print(Text.assemble((f"{number} ", "bold blue"), (title, "bold")))

    def note(self, text: str) -> None:
        """Tell what came of it."""
        self.print(Text(f"  {text}"))

    def print(self, what: RenderableType) -> None:
        """Print above the picture."""
        if self._colours:
            self.console.print(what)
            return
        with self.console.capture() as captured:
            self.console.print(what)
        for line in captured.get().splitlines():
            self.console.file.write(f"{line.rstrip()}\n")  # tables are padded to their width
        self.console.file.flush()

    def show(self, timeline: Timeline, start: float, now: float) -> None:
        """Draw the picture as of now, where it can move."""

    def close(self) -> None:
        """Take the moving picture away."""

    def final(self, timeline: Timeline, start: float, end: float) -> None:
        """Draw the whole run."""
        if not self.pictures or not timeline.peers:
            return
        label = label_width(timeline.lanes, self.width)
        axis = story_axis(timeline.times(), start, end, self.width - label)
        self.print(Text())
        self.print(Text("What h1 saw. Each moment has a column of its own; idle times are shortened.", "dim"))
        for row in (*picture(timeline, axis, label=label, glyphs=self.glyphs), *legend(self.width, self.glyphs)):
            self.print(self.styled(row))

    def styled(self, row: Row) -> Text:
        """A row with its colours."""
        if not self._colours:
            return Text(as_text(row))
        return Text.assemble(*((span.text, _STYLES.get(span.style, "")) for span in row), no_wrap=True)


class LiveScreen(Screen):
    """Tells it above a picture that moves."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream, colours=True)
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._live.start()

    def show(self, timeline: Timeline, start: float, now: float) -> None:
        label = label_width(timeline.lanes, self.width)
        axis = live_axis(start, now, self.width - label)
        # Acts, axis, legend, blank and two lines above it must fit too, or the terminal scrolls.
        room = max(4, self.console.height - 8)
        rows = picture(timeline, axis, label=label, most_lanes=room, glyphs=self.glyphs)
        lines: list[RenderableType] = [Text(), *map(self.styled, (*rows, *legend(self.width, self.glyphs)))]
        self._live.update(Group(*lines), refresh=True)

    def close(self) -> None:
        if self._live.is_started:
            self._live.update(Text(), refresh=True)
            self._live.stop()


def open_screen(*, as_json: bool) -> Screen:
    """The best screen there is."""
    if as_json:
        return Screen(sys.stderr, colours=False, pictures=False)
    if may_move(sys.stdout):
        return LiveScreen(sys.stdout)
    return Screen(sys.stdout, colours=False)


def may_move(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can redraw, and whose user wants that (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def can_encode(stream: TextIO, glyphs: Glyphs = UNICODE) -> bool:
    """Whether the stream's encoding has the picture's characters."""
    try:
        "".join((*glyphs.marks.values(), *glyphs.lines.values(), glyphs.more)).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _width() -> int:
    return shutil.get_terminal_size((80, 24)).columns
