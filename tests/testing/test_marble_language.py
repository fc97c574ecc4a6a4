"""The marble language itself: what it reads, what it refuses, and that a wrong drawing is seen."""

from __future__ import annotations

import re
import textwrap

import pytest

from rxnet.testing.diagram import DiagramError, Mark, parse
from rxnet.testing.marbles import MarbleRun, marbles, play


def test_reading_a_diagram() -> None:
    diagram = parse(
        """
        Prose, with a > sign and an = sign in it.

        1 char = 500 ms ± 10 %
        given: up, peers pq

        > signal   --C(XY)-
        = p tunnel ----e---""".replace("tunnel ", "tunnel  ").replace("signal   ", "signal    ")
    )
    assert diagram.scale == 0.5
    assert diagram.tolerance == 0.1
    assert diagram.given == ("up", "peers pq")
    assert diagram.columns == 8
    (signal,), (tunnel,) = diagram.inputs, diagram.expected
    assert signal.name == "signal"
    assert signal.marks == (Mark(2, "C"), Mark(3, "X"), Mark(3, "Y"))
    assert tunnel.name == "p tunnel"
    assert tunnel.marks == (Mark(4, "e"),)


def test_lanes_of_one_name_are_laid_upon_each_other() -> None:
    diagram = parse(
        """
        = p  -A--O-
        = p  -N----
        """
    )
    assert diagram.lanes[0].marks == (Mark(1, "A"), Mark(1, "N"), Mark(4, "O"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nothing but prose", "there is no lane"),
        ("> signal  --C--\n= signal  D---", r'the lane "= signal" is 4 characters long, the lanes above it are 5'),
        ("> signal  --C--\n= p  -----", r'the lane "= p" begins in column 5, the lanes above it in column 10'),
        ("> signal --C--", "not a lane: '> signal --C--'; write"),
        ("> signal  --C --", r'the lane "> signal" has a blank at column 3'),
        ("> signal  -(C--", r'the lane "> signal" does not close the group it opens at column 1'),
        ("> signal  -C)--", r'the lane "> signal" closes a group that it did not open at column 2'),
        ("> signal  -((C)-", r'the lane "> signal" opens a group within a group at column 2'),
        ("> signla  --C--", r'the lane "> signla" is not known; known are user, network'),
        ("= singal  --C--", r'the lane "= singal" is not known; known are network, management'),
        ("> signal  --Q--", r'the lane "> signal" has an unknown mark "Q" in column 2; known are: C connected'),
        ("= p  --?--", r'the lane "= p" has an unknown mark "\?" in column 2'),
        ("> map  --7--", r'the lane "> map" has an unknown mark "7"'),
        ("given: sunshine\n> signal  --C--", r'"given: sunshine" is not known; known are ready, up'),
    ],
)
def test_what_cannot_be_read_is_named(text: str, complaint: str) -> None:
    with pytest.raises(DiagramError, match=complaint):
        play(text)


def failure(text: str) -> str:
    with pytest.raises(AssertionError) as caught:
        play(textwrap.dedent(text)).check()
    return str(caught.value)


def test_a_mismatch_shows_both_lanes_under_each_other() -> None:
    message = failure(
        """
        given: up, network, login

        > signal  --C---X-----
        = signal  ------w---D-
        """
    )
    assert message == textwrap.dedent(
        """\
        the lane "= signal" is not as drawn (1 char = 1 s)

                                0         10
            > signal            --C---X-----
            = signal  drawn     ------w---D-
            = signal  happened  ------wD----
                                       ^

          at 6.999 s: D happened; drawn next is D at 10 s"""
    )


WRONG = {
    "a mark is missing": ("= p        O-----", "nothing is drawn then or later"),
    "a mark is too much": ("= p        O--O-O", "nothing happened then or later"),
    "another mark": ("= p        A--O--", "A is drawn, O happened"),
    "too early": ("= p        O-O---", "O is drawn; what happened next is O at 2.8"),
    "too late": ("= p        O----O", "O happened; drawn next is O at 5 s"),
    "one instant, two marks": ("= p        (OO)--", "OO is drawn, O happened"),
    "an empty lane": ("= p timer  ------", "T happened; nothing is drawn"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_drawing_is_seen(name: str) -> None:
    lane, complaint = WRONG[name]
    message = failure(f"given: ready\n\n> map      p-----\n{lane}")
    assert complaint in message


def test_what_is_caused_by_an_input_is_exact_whatever_the_tolerance() -> None:
    """The tolerance is for what is drawn by chance."""
    assert "X happened; drawn next is X at 4 s" in failure(
        """
        1 char = 1 s ± 50 %
        given: ready

        > signal  ---X----
        = gate    ----X---
        """
    )


def test_the_decorator_takes_the_name_and_runs_the_body() -> None:
    ran: list[MarbleRun] = []

    @marbles(jitter=0.0)
    def example(run: MarbleRun) -> None:
        """The body comes after the diagram.

        > user     -U-
        = network  -W-
        """
        assert run.marks("network") == "W"
        ran.append(run)

    assert example.__name__ == "example"
    example()
    (run,) = ran
    assert run.state.wanted
    assert run.engine.closed


def test_the_decorator_fails_with_the_diagram_and_with_the_body() -> None:
    @marbles
    def wrong() -> None:
        """
        > user     -U-
        = network  --W
        """

    @marbles
    def failing() -> None:
        """
        > user     -U-
        = network  -W-
        """
        raise ZeroDivisionError

    with pytest.raises(AssertionError, match=re.escape('the lane "= network" is not as drawn')):
        wrong()
    with pytest.raises(ZeroDivisionError):
        failing()


def test_an_answer_to_no_message_is_an_error_of_the_diagram() -> None:
    with pytest.raises(KeyError, match="no message to p is on its way"):
        play("given: ready, peers p\n\n> p  -m-")
