"""Events as log lines and as JSON."""

import dataclasses
import inspect
import json
from dataclasses import replace
from typing import Any, get_type_hints

import pytest
from fake_subject import FAR, NEAR, PATH, connected_state

from rxnet import events as e
from rxnet.daemon.documents import event_document, line
from rxnet.daemon.report import Line, Reporter, describe, text_of
from rxnet.daemon.subject import Moment
from rxnet.engine.inbox import Stamped
from rxnet.engine.state import Connection, ConnectionStatus
from rxnet.events import Event

STATE = connected_state()


def stamped(event: Event, seq: int = 1, at: float = 100.0) -> Stamped:
    return Stamped(seq, at, 0, 12345678901234567, event)


def test_lines_name_peers_and_reasons() -> None:
    assert describe(e.PeerDisconnected(FAR, "no answer for 25 s"), STATE) == Line(
        "info", "far.test disconnected: no answer for 25 s"
    )
    assert describe(e.PeerConnected(NEAR, PATH), STATE) == Line(
        "info", "near.test connected directly, 10.0.0.1:51820 (host) to [fd00::9]:51821 (prflx), round trip 1.2 ms"
    )
    unknown = e.PeerDisconnected(e.PeerKey("Z" * 44), "x")
    assert text_of(unknown, STATE) == "peer ZZZZZZZZ... disconnected: x"
    assert describe(e.MessagesSent(FAR, (1,)), STATE) is None


def test_a_retry_is_announced() -> None:
    waiting = Connection(ConnectionStatus.WAITING, since=100.0, retry_at=102.5)
    state = replace(STATE, signal=waiting)
    assert text_of(e.SignalDisconnected(1, "refused"), state) == "signal disconnected: refused; again in 2.5 s"


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[2Jb", "a\u2028b", "x" * 100_000])
def test_one_line_whatever_a_server_says(text: str) -> None:
    told = text_of(e.LoginRefused(1, text), STATE)
    assert told.isprintable() and len(told) < 450


def test_every_event_has_a_document_and_at_most_one_line() -> None:
    """Over the whole vocabulary, with values made from the annotations."""
    classes = [c for _, c in inspect.getmembers(e, inspect.isclass) if issubclass(c, Event) and c is not Event]
    assert len(classes) > 35
    for kind in classes:
        event = kind(**{f.name: sample(get_type_hints(kind)[f.name]) for f in dataclasses.fields(kind)})
        told = describe(event, STATE)
        assert told is None or told.text.isprintable()
        text = line(event_document(stamped(event), Moment(100.0, 1_700_000_000.0)))
        found = json.loads(text)
        assert found["event"] == kind.__name__ and found["kind"] == event.kind
        assert found["time"] == "2023-11-14T22:13:20.000000Z"
        assert list(found)[:6] == ["seq", "time", "cause", "kind", "event", "peer"]
        assert "12345678901234567" not in text, "entropy is nobody's business"
        assert "\n" not in text


def sample(hint: Any) -> Any:
    known: dict[Any, Any] = {str: "text", int: 1, float: 1.0, bool: True}
    if hint in known:
        return known[hint]
    text = str(hint)
    if text.startswith("tuple[str"):
        return ("text",)
    if text.startswith("tuple[int"):
        return (1,)
    if text.startswith("tuple["):
        return ()
    if "LocalPeer" in text:
        return STATE.local
    if "HostNetwork" in text:
        return STATE.link.network
    if "Path" in text:
        return PATH
    if "ServerAddress" in text:
        return STATE.signal.server
    if "PeerKey" in text:
        return NEAR
    if "Retry" in text:
        return e.Retry.SLOWLY
    if "Candidate" in text:
        return e.Candidate("1", 2, "10.0.0.1", 3, "host", extensions=(("ufrag", "x"),))
    return "0123456789" if "SessionId" in text or "str" in text else None


def test_a_flood_is_cut_and_counted() -> None:
    reporter = Reporter()
    lines: list[Line] = []
    for n in range(10_000):
        lines += reporter.report(stamped(e.PeerDisconnected(FAR, "link down"), n, 100.0 + n / 10_000), STATE)
    assert len(lines) == 12
    assert reporter.report(stamped(e.SignalConnected(1), 1, 101.0), STATE) == [Line("info", "signal connected")]
    assert reporter.flush_at == 110.0
    assert reporter.flush(109.9) == []
    assert reporter.flush(110.0) == [Line("info", "... and 9988 more of that (peer disconnected)")]
    assert reporter.flush_at is None
    assert len(reporter.report(stamped(e.PeerDisconnected(FAR, "again"), 1, 111.0), STATE)) == 1


def test_debug_lines_only_on_demand() -> None:
    event = stamped(e.OfferReceived(FAR, None))
    assert Reporter().report(event, STATE) == []
    assert Reporter(debug=True).report(event, STATE) == [Line("debug", "far.test offers a connection")]
    quiet = Reporter()
    for _ in range(100):
        quiet.report(event, STATE)
    assert quiet.flush_at is None, "what is not wanted is not counted either"
