"""The gallery: every marble test as documentation. `python -m rxnet.testing.gallery tests/engine docs/marbles.md`.

Tests are read, not imported: a function that is decorated with `marbles` gives its name as the title, its docstring as
prose and diagram; a module's docstring, "Topic: sentence.", gives the heading.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rxnet.testing.inputs import INPUTS
from rxnet.testing.outputs import OUTPUTS

_HEAD: Final = """\
# Marble diagrams of the engine

Generated from the tests by `python -m rxnet.testing.gallery tests/engine docs/marbles.md`: do not edit. Each diagram is
a test, and what it shows is all that may happen on its `=` lanes.

A column is an instant, one second unless the diagram says otherwise. `>` lanes are what happens: the user, the drivers,
the peers. `=` lanes are what the engine does. `-` lets time pass; a lane may be drawn on several lines. We are peer
`n`: we control towards `a` to `m`, and `o` to `z` control us. How to write such tests: [testing.md](testing.md).
"""

_DIAGRAM_LINE: Final = re.compile(r"^\s*([>=]\s|given:|1 char = )")


@dataclass(frozen=True, slots=True)
class Picture:
    """One marble test: `title` in words, `prose`, `diagram`."""

    title: str
    prose: str
    diagram: str
    options: tuple[str, ...] = ()
    """What the decorator was given, such as `jitter=0.0`."""

    def markdown(self) -> str:
        played = f" Played with `{', '.join(self.options)}`." if self.options else ""
        return f"### {self.title}\n\n{self.prose}{played}\n\n```text\n{self.diagram}\n```\n"


@dataclass(frozen=True, slots=True)
class Room:
    """The pictures of one module."""

    title: str
    prose: str
    pictures: tuple[Picture, ...]


def rooms(folder: Path) -> Iterator[Room]:
    """Read the marble tests of a folder, module by module in the order of names."""
    for path in sorted(folder.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        pictures = tuple(_pictures(tree))
        if pictures:
            title, _, prose = (ast.get_docstring(tree) or path.stem).partition(":")
            prose = prose.strip()
            yield Room(title.strip(), prose[:1].upper() + prose[1:], pictures)


def _pictures(tree: ast.Module) -> Iterator[Picture]:
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in filter(_is_marbles, node.decorator_list):
            text = inspect.cleandoc(ast.get_docstring(node) or "")
            lines = text.splitlines()
            first = next((i for i, line in enumerate(lines) if _DIAGRAM_LINE.match(line)), len(lines))
            title = node.name.removeprefix("test_").replace("_", " ")
            yield Picture(
                title[:1].upper() + title[1:],
                "\n".join(lines[:first]).strip(),
                "\n".join(lines[first:]).strip(),
                _options(decorator),
            )


def _is_marbles(decorator: ast.expr) -> bool:
    name = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(name, ast.Name) and name.id == "marbles"


def _options(decorator: ast.expr) -> tuple[str, ...]:
    return tuple(map(ast.unparse, decorator.keywords)) if isinstance(decorator, ast.Call) else ()


def gallery(folder: Path) -> str:
    """Write the gallery of a folder of tests as Markdown."""
    parts = [_HEAD]
    everything = list(rooms(folder))
    parts.append("\n".join(f"- [{room.title}](#{_anchor(room.title)})" for room in everything) + "\n")
    for room in everything:
        parts.append(f"## {room.title}\n\n{room.prose}\n")
        parts += [picture.markdown() for picture in room.pictures]
    parts.append("## Marks\n\nWhat each mark means. `p` stands for any peer's letter.\n")
    parts.append(_table("Input lanes (`>`)", INPUTS))
    parts.append(_table("Expected lanes (`=`)", OUTPUTS))
    return "\n".join(parts)


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def _table(title: str, lanes: dict[str, dict[str, str]]) -> str:
    rows = [f"### {title}\n", "| lane | mark | meaning |", "|---|---|---|"]
    rows += [f"| `{lane}` | `{mark}` | {meaning} |" for lane, marks in lanes.items() for mark, meaning in marks.items()]
    return "\n".join(rows) + "\n"


def main(arguments: list[str]) -> int:
    """Write the gallery; with `--check`, only tell whether the file is current."""
    check = "--check" in arguments
    paths = [argument for argument in arguments if argument != "--check"]
    if len(paths) != 2:
        sys.stderr.write("usage: python -m rxnet.testing.gallery [--check] TESTS FILE\n")
        return 2
    folder, target = map(Path, paths)
    text = gallery(folder)
    if check:
        if target.exists() and target.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write(f"{target} is not current: run python -m rxnet.testing.gallery {folder} {target}\n")
        return 1
    target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
