"""The demo's pure parts: the trace, ICMP, the record of runs, the judgement and the table."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rxnet.demo import record, run
from rxnet.demo.facts import Facts, HostPackets, PairPings, PeerFacts
from rxnet.demo.main import check_machine
from rxnet.demo.prober import Ping, checksum, reply, request
from rxnet.demo.processes import environment, is_stopped
from rxnet.demo.table import NOT, figures, tables
from rxnet.demo.trace import Seen, Trace, parse
from rxnet.errors import ConfigError, DeviceError

# -- the trace


LINE = (
    '{"seq":20,"time":"2026-11-22T19:05:59.428550Z","cause":19,"kind":"own","event":"PeerConnected",'
    '"peer":"El2k","path":{"local":"10.77.0.11:51820"},"fqdn":"h2.rxnet.internal"}'
)


def test_a_line_of_rxnet_up_becomes_an_event() -> None:
    event = parse(LINE)
    assert event is not None
    assert (event.seq, event.cause, event.kind, event.name, event.peer) == (20, 19, "own", "PeerConnected", "El2k")
    assert event.at == pytest.approx(1795374359.42855, abs=1e-6)
    assert event.data["path"]["local"] == "10.77.0.11:51820"


@given(st.binary(max_size=80) | st.sampled_from([b"", b"{}", b"[]", b"null", b'{"seq":1}', LINE.encode()[:-5]]))
def test_what_is_no_event_is_passed_over(line: bytes) -> None:
    assert parse(line) is None


def events(*names: str) -> Trace:
    trace = Trace()
    for number, name in enumerate(names, 1):
        trace.add(Seen(number, float(number), number - 1, "own", name, "P" if name.startswith("Peer") else None))
    return trace


def test_questions_to_a_trace() -> None:
    trace = events("NetworkCameUp", "PeerConnected", "NetworkWentDown", "OffersCancelled", "PeerDisconnected")
    cancelled = trace.first("OffersCancelled")
    assert cancelled is not None
    cause = trace.caused(cancelled)
    assert cause is not None and cause.name == "NetworkWentDown"
    assert trace.first("PeerConnected", since=2.5) is None
    assert trace.count("NetworkCameUp", "NetworkWentDown", since=1.0, until=3.0) == 1, "the end does not belong to it"
    assert trace.connected() == set()
    assert trace.missed == 0
    trace.add(Seen(9, 9.0, 0, "own", "PeerConnected", "P"))
    assert trace.missed == 3
    assert trace.connected() == {"P"}


# -- ICMP


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_request_is_answered_by_its_reply_only(family: socket.AddressFamily) -> None:
    packet = bytearray(request(family, 0x1234, 7))
    header = bytes([0x45]) + bytes(19) if family == socket.AF_INET else b""
    assert reply(family, header + bytes(packet), 0x1234) is None, "a request is no reply"
    packet[0] = 0 if family == socket.AF_INET else 129
    assert reply(family, header + bytes(packet), 0x1234) == 7
    assert reply(family, header + bytes(packet), 0x1235) is None, "somebody else's"


def test_the_checksum_of_a_request_is_right() -> None:
    packet = request(socket.AF_INET, 0xFFFF, 0xFFFF)
    assert checksum(packet) == 0, "RFC 1071: the sum over a packet with its checksum is zero"
    assert struct.unpack("!H", packet[2:4])[0] != 0
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D, "the example of RFC 1071, section 3"


@given(st.binary(max_size=100), st.integers(0, 65535))
def test_any_bytes_are_a_reply_or_none(packet: bytes, ident: int) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        assert reply(family, packet, ident) in (None, *range(65536))


# -- the record


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "HOME", tmp_path / "runs")
    return tmp_path / "runs"


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def put(home: Path, pid: int, started: int, *, kept: bool = False) -> Path:
    directory = home / str(pid)
    directory.mkdir(parents=True)
    record.write(directory, record.Record(pid, started, ("rxdemo-test-no-such-namespace",), kept))
    return directory


def test_a_run_that_goes_on_stays(home: Path) -> None:
    directory = record.open_run(["rxdemo-test-no-such-namespace"])
    found = record.read(directory)
    assert found is not None and found.alive
    assert directory.stat().st_mode & 0o777 == 0o700
    assert record.remove_dead() == record.remove_kept() == []
    assert directory.exists()


def test_a_dead_run_is_removed_and_a_kept_one_only_on_request(home: Path) -> None:
    dead, kept = ended_process(), ended_process()
    put(home, dead, 1)
    put(home, kept, 1, kept=True)
    assert record.remove_dead() == [dead]
    assert [entry.name for entry in home.iterdir()] == [str(kept)]
    assert record.remove_kept() == [kept]
    assert not home.exists()


def test_another_process_with_the_same_id_does_not_count(home: Path) -> None:
    start = record.start_time(os.getpid())
    assert start is not None
    put(home, os.getpid(), start - 1)
    assert record.remove_dead() == [os.getpid()]


def test_a_run_that_was_killed_before_its_record_was_written_is_removed(home: Path) -> None:
    (home / str(ended_process())).mkdir(parents=True)
    (home / str(os.getpid())).mkdir()
    assert record.remove_dead() == []
    assert [entry.name for entry in home.iterdir()] == [str(os.getpid())], "one that is just being made stays"


# -- the judgement


def good_facts() -> Facts:
    facts = Facts(2)
    for source, target in (("h1", "h2"), ("h2", "h1")):
        facts.pings += [PairPings(source, target, family, 3, 3, [0.1, 0.2, 0.3]) for family in (4, 6)]
    facts.cut.cancelled, facts.cut.messages_while_down, facts.cut.offers_due_while_down = 1, 0, 0
    facts.peers = [PeerFacts("h2", first_ping_after=0.02), PeerFacts("h3", silent=True, reason="frozen")]
    facts.signal_outage.pings_sent = facts.signal_outage.pings_answered = 100
    facts.frozen.processes = 2
    facts.frozen.pings_sent = facts.frozen.pings_answered = 50
    return facts


def test_good_facts_pass() -> None:
    facts = good_facts()
    facts.judge()
    assert facts.failures == []
    assert facts.document()["passed"] is True


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda f: setattr(f.pings[1], "answered", 2), "h1 to h2 over IPv6: 2 of 3 pings"),
        (lambda f: f.pings.pop(), "1 of 2 pairs of hosts were pinged over IPv6"),
        (lambda f: setattr(f.cut, "cancelled", 0), "no pending offer was cancelled"),
        (lambda f: setattr(f.cut, "messages_while_down", 1), "offers went on"),
        (lambda f: setattr(f.cut, "offers_due_while_down", 1), "offers went on"),
        (lambda f: setattr(f.peers[0], "first_ping_after", None), "no ping to h2"),
        (lambda f: setattr(f.signal_outage, "pings_answered", 99), "without signal 99 of 100"),
        (lambda f: setattr(f.signal_outage, "pings_sent", 0), "without signal 100 of 0"),
        (lambda f: setattr(f.frozen, "pings_answered", 49), "with Python stopped 49 of 50"),
        (lambda f: setattr(f.frozen, "processes", 1), "1 of 2 Python processes"),
    ],
)
def test_each_broken_promise_is_named(spoil: object, complaint: str) -> None:
    facts = good_facts()
    spoil(facts)  # type: ignore[operator]
    facts.judge()
    assert len(facts.failures) == 1
    assert complaint in facts.failures[0]
    assert facts.document()["passed"] is False


def test_a_story_that_stopped_early_has_its_one_reason() -> None:
    facts = Facts(3, failures=["the login of h2 did not happen within 30 s"])
    facts.judge()
    assert facts.failures == ["the login of h2 did not happen within 30 s"]
    assert not facts.passed


def test_nothing_measured_is_nothing_passed() -> None:
    facts = Facts(3)
    facts.judge()
    assert not facts.passed


def test_pings_are_counted_with_their_times() -> None:
    pair = PairPings("h1", "h2", 4)
    pair.take([Ping(10.0, 10.001), Ping(11.0), Ping(12.0, 12.003)])
    assert (pair.sent, pair.answered, pair.passed) == (3, 2, False)
    assert pair.middle == pytest.approx(2.0, abs=0.01)


def test_the_document_is_json_and_has_the_medians() -> None:
    document = json.loads(json.dumps(good_facts().document()))
    assert document["schema"] == 1
    assert [pair["median_ms"] for pair in document["pings"]] == [0.2] * 4


# -- the table


def rendered(facts: Facts, width: int = 80, *, ascii_only: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(tables(facts, width, ascii_only=ascii_only))
    return out.getvalue()


def test_figures_that_were_not_measured_are_not_shown_as_numbers() -> None:
    for name, value in figures(Facts(3)):
        assert NOT in value, f"{name}: {value}"
    text = rendered(good_facts())
    assert text.count(NOT) >= 8
    assert f"{NOT}: h3: frozen" in text


def test_one_host_without_a_counter_makes_the_sum_unknown() -> None:
    facts = good_facts()
    facts.packets = [HostPackets("h1", 10, 20, 0), HostPackets("h2", 5, 5, None, "too old")]
    assert dict(figures(facts))["tunnel packets"] == f"40 on 2 interfaces (kernel), {NOT} through Python (driver)"
    assert f"{NOT}: packets: too old" in rendered(facts)


def test_the_table_fits_into_80_columns_of_ascii() -> None:
    facts = good_facts()
    ends = {"local": "10.77.0.11:51820", "remote": "10.77.0.12:51820", "local_type": "host", "remote_type": "prflx"}
    facts.peers[0] = PeerFacts("h2", path=ends, ping_ms=0.3, ping_v6_ms=12.25, connected_after=10.5)
    facts.peers[1].offer_cancelled = True
    lines = rendered(facts, ascii_only=True).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "10.77.0.12:51820 prflx" in "\n".join(lines), "nothing is folded"
    assert "\n".join(lines).isascii()


# -- what must be there


@pytest.mark.parametrize("peers", [-1, 0, 1, 21, 1000])
def test_the_number_of_hosts_is_bounded(peers: int) -> None:
    with pytest.raises(ConfigError, match=r"--peers .* 2 to 20"):
        run(peers)


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(DeviceError, match="needs root: run it with sudo"):
        check_machine()


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("WIREGUARD_GO", raising=False)
    with pytest.raises(DeviceError, match="package iproute2"):
        check_machine()
    (tmp_path / "ip").write_text("#!/bin/sh\n")
    (tmp_path / "ip").chmod(0o755)
    monkeypatch.setattr("rxnet.demo.main.check_rights", lambda: None)
    with pytest.raises(DeviceError, match="install wireguard-go"):
        check_machine()


def test_the_hosts_do_not_inherit_what_would_lead_them_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RXNET_SETUP_KEY", "RXNET_DAEMON_ADDR", "https_proxy", "JOURNAL_STREAM"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("WIREGUARD_GO", "/somewhere/wireguard-go")
    found = environment()
    assert not {"RXNET_SETUP_KEY", "RXNET_DAEMON_ADDR", "https_proxy", "JOURNAL_STREAM"} & set(found)
    assert found["WIREGUARD_GO"] == "/somewhere/wireguard-go"
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import rxnet.demo"], env=found, cwd="/", timeout=20, check=False
    )
    assert done.returncode == 0


def test_a_running_process_is_not_stopped() -> None:
    assert not is_stopped(os.getpid())
    assert not is_stopped(ended_process())
