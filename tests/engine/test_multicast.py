"""The one stream that every epic sees."""

from __future__ import annotations

import pytest
from reactivex import operators as ops

from rxnet.engine.multicast import Multicast


def test_values_reach_observers_in_the_order_of_their_subscribing() -> None:
    stream: Multicast[int] = Multicast()
    seen: list[tuple[str, int]] = []
    stream.subscribe(lambda value: seen.append(("a", value)))
    second = stream.subscribe(lambda value: seen.append(("b", value)))
    stream.on_next(1)
    second.dispose()
    second.dispose()
    stream.on_next(2)
    assert seen == [("a", 1), ("b", 1), ("a", 2)]


def test_who_is_disposed_of_during_a_value_does_not_get_it() -> None:
    """A switch disposes its inner while the value that switches is on its way: the inner must not work on it."""
    stream: Multicast[int] = Multicast()
    seen: list[int] = []
    stream.subscribe(lambda value: later.dispose() if value == 2 else None)
    later = stream.subscribe(seen.append)
    stream.on_next(1)
    stream.on_next(2)
    stream.on_next(3)
    assert seen == [1]


def test_who_subscribes_during_a_value_gets_the_next() -> None:
    stream: Multicast[int] = Multicast()
    seen: list[int] = []
    stream.subscribe(lambda value: stream.subscribe(seen.append) if value == 1 else None)
    stream.on_next(1)
    stream.on_next(2)
    assert seen == [2]


def test_completion_reaches_everybody_once_and_operators_work() -> None:
    stream: Multicast[int] = Multicast()
    seen: list[object] = []
    stream.pipe(ops.map(lambda value: value * 10)).subscribe(seen.append, on_completed=lambda: seen.append("end"))
    stream.on_next(1)
    stream.on_completed()
    stream.on_completed()
    stream.on_next(2)
    assert seen == [10, "end"]


def test_an_observer_that_raises_is_heard_by_the_caller_and_stays() -> None:
    stream: Multicast[int] = Multicast()
    seen: list[int] = []

    def clumsy(value: int) -> None:
        seen.append(value)
        if value == 1:
            raise ZeroDivisionError

    stream.subscribe(clumsy)
    with pytest.raises(ZeroDivisionError):
        stream.on_next(1)
    stream.on_next(2)
    assert seen in ([1, 2], [1])
