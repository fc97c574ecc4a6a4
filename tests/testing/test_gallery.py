"""docs/marbles.md is what the tests say, and docs/testing.md tells the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rxnet.testing.gallery import gallery, main, rooms
from rxnet.testing.inputs import INPUTS
from rxnet.testing.marbles import play
from rxnet.testing.outputs import OUTPUTS

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "engine"
DOCUMENT = ROOT / "docs" / "marbles.md"


def test_the_document_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == gallery(TESTS), (
        "run: python -m rxnet.testing.gallery tests/engine docs/marbles.md"
    )


def test_every_epic_has_its_room() -> None:
    titles = {room.title for room in rooms(TESTS)}
    assert {"Network", "Management", "Signal", "Device and addresses", "Peers", "Paths", "Pending", "Silence", "News",
            "The network map"} <= titles  # fmt: skip
    assert sum(len(room.pictures) for room in rooms(TESTS)) > 90


def test_every_mark_is_used_somewhere() -> None:
    """A mark that no diagram shows would be a mark that nobody has seen work."""
    used: set[tuple[str, str, str]] = set()
    for room in rooms(TESTS):
        for picture in room.pictures:
            for way, name, body in re.findall(r"^([>=])\s+([a-z][a-z ]*?)\s{2,}(\S+)$", picture.diagram, re.M):
                first, _, rest = name.removesuffix(" late").partition(" ")
                lane = f"p {rest}".strip() if len(first) == 1 else name.removesuffix(" late")
                used |= {(way, lane, mark) for mark in body if mark not in "-()"}
    for way, lanes in ((">", INPUTS), ("=", OUTPUTS)):
        for lane, marks in lanes.items():
            for mark in marks:
                if mark not in ("a-z", "A-Z"):
                    assert (way, lane, mark) in used, f"no diagram has the mark {mark} on the lane {way} {lane}"


def test_the_worked_example_of_the_documentation_passes() -> None:
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    runnable = [example for example in examples if "def test_" in example]
    assert runnable
    for example in runnable:
        names: dict[str, object] = {}
        exec(compile(example, "docs/testing.md", "exec"), names)
        for name, test in names.items():
            if name.startswith("test_"):
                assert callable(test)
                test()


def test_diagrams_in_the_documentation_are_right() -> None:
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    diagrams = re.findall(r"```marbles\n(.*?)```", text, re.S)
    assert diagrams
    for diagram in diagrams:
        play(diagram).check()


def test_the_command_checks_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "marbles.md"
    assert main(["--check", str(TESTS), str(target)]) == 1
    assert "is not current" in capsys.readouterr().err
    assert main([str(TESTS), str(target)]) == 0
    assert main(["--check", str(TESTS), str(target)]) == 0
    assert main([]) == 2
