"""The marble picture: events to lanes, time to columns, both to text."""

from __future__ import annotations

import math

from demo_events import Script, seeds_scenario
from hypothesis import given
from hypothesis import strategies as st

from rxnet.demo.axis import Axis, live_axis, story_axis
from rxnet.demo.draw import ASCII, UNICODE, Glyphs, as_text, label_width, legend, picture
from rxnet.demo.marbles import Lane, Line, Mark, Timeline
from rxnet.demo.trace import Seen


def timeline_of(events: list[Seen]) -> Timeline:
    timeline = Timeline({"h3": "frozen"})
    for event in events:
        timeline.feed(event)
    return timeline


def drawn(timeline: Timeline, axis: Axis, glyphs: Glyphs = ASCII, **options: int) -> list[str]:
    return [as_text(row) for row in picture(timeline, axis, label=11, glyphs=glyphs, **options)]


def test_the_seeds_scenario_to_scale() -> None:
    timeline = timeline_of(seeds_scenario())
    timeline.acts.append((8.0, 4))
    # One column a second.
    assert drawn(timeline, live_axis(0.0, 18.5, 40, step=1.0)) == [
        "act                4",
        "network    O=======X       O==",
        "signal      O======        O==",
        "management  *O=====",
        "h2            oO===~~~~X   oO=",
        "h3 frozen     o--o-#       o--",
        "seconds    0s   5s   10s  15s",
    ]


def test_what_a_cut_does_to_each_lane() -> None:
    timeline = timeline_of(seeds_scenario())
    h2, h3 = timeline.peers["B"], timeline.peers["C"]
    assert [m.mark for m in h2.marbles] == [Mark.OFFER, Mark.UP, Mark.LOST, Mark.OFFER, Mark.UP]
    assert [m.mark for m in h3.marbles] == [Mark.OFFER, Mark.OFFER, Mark.CANCELLED, Mark.OFFER]
    assert (h2.line_at(7.9), h2.line_at(8.0), h2.line_at(12.0)) == (Line.UP, Line.HELD, Line.DOWN)
    assert (h3.line_at(7.9), h3.line_at(8.0), h3.line_at(16.6)) == (Line.PENDING, Line.DOWN, Line.PENDING)
    assert timeline.shared["signal"].line_at(8.0) is Line.DOWN, "connections end with the network"
    assert timeline.cancelled == {"C"}, "a connected peer had nothing pending"


def test_a_tunnel_survives_the_loss_of_signal() -> None:
    script = Script().at(0.0, "NetworkCameUp").at(1.0, "SignalConnected").at(1.1, "PeerAdded", "B", fqdn="h2")
    script.at(1.2, "OffersStarted").at(2.0, "PeerConnected", "B").at(3.0, "SignalDisconnected").at(
        3.0, "OffersCancelled"
    )
    timeline = timeline_of(script.events)
    assert timeline.peers["B"].line is Line.UP
    assert timeline.shared["network"].line is Line.UP
    assert timeline.shared["signal"].line is Line.DOWN


def test_only_the_first_loss_is_a_loss_and_what_follows_is_a_failed_try() -> None:
    script = Script().at(0.0, "SignalConnected")
    for second in (1.0, 2.0, 3.0):
        script.at(second, "SignalDisconnected", reason="refused")
    marks = [marble.mark for marble in timeline_of(script.events).shared["signal"].marbles]
    assert marks == [Mark.UP, Mark.LOST, Mark.FAILED, Mark.FAILED]


def test_events_of_unknown_peers_and_unknown_names_are_passed_over() -> None:
    script = Script().at(0.0, "OfferReceived", "Z").at(1.0, "PeerConnected", "Z").at(2.0, "SomethingNew", field=1)
    assert timeline_of(script.events).peers == {}


def test_peers_are_in_natural_order() -> None:
    script = Script()
    for number in (10, 2, 1):
        script.at(0.0, "PeerAdded", f"key{number}", fqdn=f"h{number}.example")
    assert [lane.name for lane in timeline_of(script.events).lanes[3:]] == ["h1", "h2", "h10"]


def test_several_marbles_in_a_column_show_the_most_important() -> None:
    timeline = timeline_of(seeds_scenario())
    rows = drawn(timeline, live_axis(0.0, 18.0, 40, step=20.0))
    assert [row[11:] for row in rows[1:6]] == ["X", "O", "O", "X", "#"]


def test_lanes_that_do_not_fit_are_counted() -> None:
    script = Script()
    for number in range(1, 9):
        script.at(0.0, "PeerAdded", f"key{number}", fqdn=f"h{number}")
    timeline = Timeline({"h8": "frozen"})
    for event in script.events:
        timeline.feed(event)
    rows = drawn(timeline, live_axis(0.0, 1.0, 20), most_lanes=6)
    assert [row.split()[0] for row in rows[1:6]] == ["network", "signal", "management", "h1", "h8"]
    assert rows[6] == "... and 6 more peers"


def test_long_names_are_cut_and_all_rows_line_up() -> None:
    timeline = timeline_of(
        [*Script().at(0.0, "PeerAdded", "K", fqdn="a-very-long-host-name-indeed.example").events, *seeds_scenario()]
    )
    width = label_width(timeline.lanes, 40)
    assert width <= 10
    rows = picture(timeline, live_axis(0.0, 18.0, 30, step=1.0), label=width)
    assert {len(row[0].text) for row in rows} == {width}


def test_both_alphabets_have_every_character_once() -> None:
    for glyphs in (UNICODE, ASCII):
        characters = [*glyphs.marks.values(), *glyphs.lines.values()]
        assert set(glyphs.marks) == set(Mark)
        assert set(glyphs.lines) == set(Line)
        assert len(set(characters)) == len(characters)
        assert all(len(character) == 1 for character in characters)


def test_the_legend_fits_into_80_columns() -> None:
    assert all(len(as_text(row)) <= 80 for row in legend(80))
    assert len(legend(80)) == 2
    assert len(legend(120)) == 1


def test_the_live_axis_moves() -> None:
    early, late = live_axis(100.0, 101.0, 20, step=0.25), live_axis(100.0, 160.0, 20, step=0.25)
    assert early.columns[0][0] == 100.0, "it begins at the left"
    assert len(late.columns) == 20
    assert late.columns[-1][0] <= 160.0 < late.columns[-1][1]


def test_a_column_keeps_its_times_while_the_axis_moves() -> None:
    columns = {column for now in range(400) for column in live_axis(0.0, now * 0.1, 30, step=0.25).columns}
    assert len(columns) == math.floor(39.9 / 0.25) + 1


def test_moments_milliseconds_apart_have_columns_of_their_own() -> None:
    axis = story_axis([0.0, 10.0, 10.003, 10.010], 0.0, 20.0, 60)
    columns = [axis.column(at) for at in (0.0, 10.0, 10.003, 10.010)]
    assert None not in columns
    assert len(set(columns)) == 4
    assert columns[1:] == [columns[1], columns[1] + 1, columns[1] + 2]  # type: ignore[operator]


def test_idle_time_is_shortened() -> None:
    axis = story_axis([0.0, 1.0, 2.0, 1000.0], 0.0, 1001.0, 200)
    assert len(axis.columns) < 60
    assert axis.column(500.0) is not None


_times = st.lists(st.floats(0, 1000), max_size=60)


@given(_times, st.integers(20, 200))
def test_the_story_axis_is_whole_ordered_and_fits(times: list[float], width: int) -> None:
    end = max(times, default=0.0) + 1.0
    axis = story_axis(times, 0.0, end, width)
    assert 0 < len(axis.columns) <= width
    assert axis.columns[0][0] == 0.0
    assert axis.columns[-1][1] >= end
    for (begin, until), (following, _) in zip(axis.columns, axis.columns[1:], strict=False):
        assert begin <= until == following
    assert all(axis.column(at) is not None for at in times)
    free = 0
    for column, text in axis.ticks:
        assert free <= column
        assert column + len(text) <= width
        free = column + len(text) + 1


@given(_times, st.integers(40, 140))
def test_no_row_is_wider_than_the_screen(times: list[float], width: int) -> None:
    timeline = timeline_of(seeds_scenario())
    lane = Lane("h9")
    for at in sorted(times):
        lane.put(at, Mark.OFFER, Line.PENDING)
    timeline.peers["Z"] = lane
    label = label_width(timeline.lanes, width)
    axis = story_axis(timeline.times(), 0.0, 1001.0, width - label)
    assert all(len(as_text(row)) <= width for row in picture(timeline, axis, label=label))
