"""When maps are pushed, in numbers."""

from __future__ import annotations

from rxnet.server.debounce import Debounce


def test_nothing_changed_nothing_due() -> None:
    assert Debounce().due() is None


def test_the_first_change_is_due_at_once() -> None:
    debounce = Debounce()
    debounce.changed(10.0)
    assert debounce.due() == 10.0
    debounce.pushed(10.0)
    assert debounce.due() is None


def test_later_changes_wait_for_a_second_of_quiet() -> None:
    debounce = Debounce()
    debounce.changed(10.0)
    debounce.pushed(10.0)
    debounce.changed(10.2)
    assert debounce.due() == 11.2
    debounce.changed(10.9)
    assert debounce.due() == 11.9
    debounce.pushed(11.9)
    debounce.changed(12.95)
    assert debounce.due() == 12.95


def test_changes_without_pause_do_not_wait_for_ever() -> None:
    debounce = Debounce()
    debounce.changed(0.0)
    debounce.pushed(0.0)
    now = 0.5
    while (due := debounce.due()) is None or due > now:
        debounce.changed(now)
        now += 0.5
        assert now < 20
    assert due == 5.5


def test_a_slow_push_counts_from_its_end() -> None:
    debounce = Debounce()
    debounce.changed(0.0)
    debounce.changed(0.4)
    debounce.pushed(3.0)
    debounce.changed(3.5)
    assert debounce.due() == 4.5
