"""The journal of host changes: on the disk before the change, and undone by whoever comes after a crash."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rxy_namespaces import ROOT, environment

from rxnet.errors import ConfigError, DirectoryInUse
from rxnet.namespaces import network_namespace
from rxnet.system.journal import Entry, Journal, Outcome
from rxnet.system.processes import end_process, find_process, start_time
from rxnet.system.undo import USERSPACE_WIREGUARD, _remove_dead_socket, open_journal


def undo_all(journal: Journal) -> tuple[Outcome, ...]:
    return asyncio.run(asyncio.wait_for(journal.undo_all(), 30))


def kinds(undone: list[Entry]) -> dict[str, Any]:
    """Undoers for the kinds `a` and `b` (noted in `undone`) and `broken`."""

    async def note(entry: Entry) -> str:
        undone.append(entry)
        return "noted"

    async def fail(entry: Entry) -> str:
        raise OSError("the thing resists")

    return {"a": note, "b": note, "broken": fail}


def crash(program: str, *arguments: str) -> str:
    """Run a program that ends by kill -9; its output."""
    head = "import os, signal, subprocess, sys\nfrom pathlib import Path\nfrom rxnet.system.undo import open_journal\n"
    done = subprocess.run(
        [sys.executable, "-c", head + program + "\nos.kill(os.getpid(), signal.SIGKILL)", *arguments],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that did nothing wrong."""
    with subprocess.Popen(["sleep", "60.125"]) as process:
        yield process
        process.kill()


def test_what_is_done_leaves_nothing(tmp_path: Path) -> None:
    undone: list[Entry] = []
    with Journal(tmp_path, kinds(undone)) as journal:
        first, second = journal.record(kind="a", name="x"), journal.record(kind="b")
        assert [entry.id for entry in journal.pending()] == [first, second]
        journal.done(first)
        journal.done(second)
        journal.done(second)
        assert journal.pending() == () and undo_all(journal) == () and undone == []
        assert journal.path.read_bytes() == b""


def test_pending_changes_survive_and_are_undone_newest_first(tmp_path: Path) -> None:
    with Journal(tmp_path, {}) as journal:
        journal.record(kind="a", name="x", pid=0)
        gone = journal.record(kind="a", name="gone")
        last = journal.record(kind="b", name="y")
        journal.update(last, pid=7)
        journal.done(gone)
    undone: list[Entry] = []
    with Journal(tmp_path, kinds(undone)) as journal:
        assert [outcome.text for outcome in undo_all(journal)] == ["noted", "noted"]
        assert [(entry.kind, dict(entry.fields)) for entry in undone] == [
            ("b", {"name": "y", "pid": 7}),
            ("a", {"name": "x", "pid": 0}),
        ]
        assert all(entry.same_boot for entry in undone)
        assert undo_all(journal) == ()
        assert journal.record(kind="a") not in {entry.id for entry in undone}


def test_a_record_is_flushed_to_the_disk_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path, {}) as journal:
        flushed: list[bytes] = []
        monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(journal.path.read_bytes()))
        journal.record(kind="a", name="x")
        assert len(flushed) == 1 and json.loads(flushed[0])["fields"] == {"name": "x"}


def test_a_full_disk_stops_the_change_and_spoils_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with Journal(tmp_path, {}) as journal:
        journal.record(kind="a")
        before = journal.path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", no_space)
            with pytest.raises(ConfigError, match="no space left on device"):
                journal.record(kind="b")
        assert journal.path.read_bytes() == before
        assert [entry.kind for entry in journal.pending()] == ["a"]
        journal.record(kind="c")
    with Journal(tmp_path, {}) as journal:
        assert [entry.kind for entry in journal.pending()] == ["a", "c"]


def test_unknown_kinds_are_told_and_kept(tmp_path: Path) -> None:
    undone: list[Entry] = []
    with Journal(tmp_path, kinds(undone)) as journal:
        journal.record(kind="of the future", name="x")
        journal.record(kind="a")
    with Journal(tmp_path, kinds(undone)) as journal:
        done, kept = undo_all(journal)
        assert done.undone and not kept.undone and "of the future" in kept.text
    with Journal(tmp_path, {}) as journal:
        (entry,) = journal.pending()
        assert str(entry) == "of the future name=x"
        journal.register("of the future", kinds(undone)["a"])
        assert [outcome.undone for outcome in undo_all(journal)] == [True]


def test_one_failure_stops_no_other(tmp_path: Path) -> None:
    undone: list[Entry] = []
    with Journal(tmp_path, kinds(undone)) as journal:
        for kind in ("a", "broken", "b"):
            journal.record(kind=kind)
        outcomes = undo_all(journal)
        assert [outcome.undone for outcome in outcomes] == [True, False, True]
        assert "the thing resists" in outcomes[1].text
        assert [entry.kind for entry in undone] == ["b", "a"]
        assert [entry.kind for entry in journal.pending()] == ["broken"]


def test_files_are_private(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "state"
    with Journal(directory, {}) as journal:
        journal.record(kind="a")
        journal.done(journal.record(kind="a"))
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="others can write"):
        open_journal(tmp_path)


def test_it_stays_small(tmp_path: Path) -> None:
    with Journal(tmp_path, {}) as journal:
        kept = journal.record(kind="a", name="kept")
        for _ in range(300):
            journal.done(journal.record(kind="b", text="x" * 1000))
        assert journal.path.stat().st_size < 70_000
        journal.update(kept, more=1)
    with Journal(tmp_path, {}) as journal:
        assert [dict(entry.fields) for entry in journal.pending()] == [{"name": "kept", "more": 1}]


@given(st.floats(0, 1))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_cut_anywhere_gives_what_was_complete(tmp_path: Path, where: float) -> None:
    path = tmp_path / "changes.jsonl"
    path.unlink(missing_ok=True)
    with Journal(tmp_path, {}) as journal:
        for number in range(4):
            journal.record(kind="a", number=number)
    whole = path.read_bytes()
    cut = round(where * len(whole))
    path.write_bytes(whole[:cut])
    complete = whole[:cut].count(b"\n")
    with Journal(tmp_path, {}) as journal:
        assert [entry.fields["number"] for entry in journal.pending()] == list(range(complete))
        journal.record(kind="a", number=99)
    with Journal(tmp_path, {}) as journal:
        assert [entry.fields["number"] for entry in journal.pending()] == [*range(complete), 99]


@given(
    st.lists(
        st.one_of(st.binary(max_size=60), st.sampled_from([b"[]", b"7", b'{"done":[]}', b'{"id":{}}'])), max_size=5
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_lines_are_told_and_cost_no_other(tmp_path: Path, garbage: list[bytes]) -> None:
    path = tmp_path / "changes.jsonl"
    path.unlink(missing_ok=True)
    undone: list[Entry] = []
    with Journal(tmp_path, {}) as journal:
        journal.record(kind="a", name="first")
        journal.record(kind="a", name="second")
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, *garbage, second, b""]))
    with Journal(tmp_path, kinds(undone)) as journal:
        undo_all(journal)
        assert [entry.fields["name"] for entry in undone] == ["second", "first"]
        assert journal.path.read_bytes() == b""


# -- the lock --------------------------------------------------------------------------------------------------------


def test_a_second_process_is_told_who_has_the_directory(tmp_path: Path) -> None:
    with open_journal(tmp_path), pytest.raises(DirectoryInUse, match=rf"another rxnet \(process {os.getpid()}\)"):
        open_journal(tmp_path)
    open_journal(tmp_path).close()


def test_the_lock_dies_with_its_process_although_a_child_lives_on(tmp_path: Path) -> None:
    program = (
        "journal = open_journal(Path(sys.argv[1]))\n"
        "child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)"
    )
    child = int(crash(program, str(tmp_path)))
    try:
        assert start_time(child)
        open_journal(tmp_path).close()
    finally:
        os.kill(child, signal.SIGKILL)


# -- crashes, with real processes ------------------------------------------------------------------------------------

_RECORD = (
    "journal = open_journal(Path(sys.argv[1]))\n"
    "from rxnet import namespaces\n"
    "from rxnet.system import processes\n"
    "id = journal.record(kind='userspace-wireguard', name='rxytest9', program='/nowhere/wireguard-go',\n"
    "                    namespace=namespaces.network_namespace())\n"
)
_ACT = (
    "child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
    "journal.update(id, pid=child.pid, started=processes.start_time(child.pid))\n"
    "print(child.pid, flush=True)"
)


def test_killed_between_record_and_change(tmp_path: Path) -> None:
    crash(_RECORD, str(tmp_path))
    with open_journal(tmp_path) as journal:
        assert [entry.kind for entry in journal.pending()] == [USERSPACE_WIREGUARD]
        (outcome,) = undo_all(journal)
        assert outcome.undone and outcome.text == "interface rxytest9 was gone"
    with open_journal(tmp_path) as journal:
        assert undo_all(journal) == ()


def test_killed_after_the_change(tmp_path: Path) -> None:
    child = int(crash(_RECORD + _ACT, str(tmp_path)))
    assert start_time(child)
    with open_journal(tmp_path) as journal:
        (outcome,) = undo_all(journal)
        assert outcome.undone and outcome.text == f"process {child} of interface rxytest9 ended"
    # Ended; it may be a zombie where nobody reaps orphans.
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("wrong", ["start", "boot"])
def test_a_process_that_got_the_number_later_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], wrong: str
) -> None:
    started = start_time(sleeper.pid)
    with open_journal(tmp_path) as journal:
        id = journal.record(kind=USERSPACE_WIREGUARD, name="rxytest9", namespace=network_namespace())
        journal.update(id, pid=sleeper.pid, started=started - 1 if wrong == "start" else started)
    if wrong == "boot":
        path = tmp_path / "changes.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[0]["boot"] = "another"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with open_journal(tmp_path) as journal:
        assert [outcome.undone for outcome in undo_all(journal)] == [True]
    assert sleeper.poll() is None


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert asyncio.run(asyncio.wait_for(end_process(process.pid, start_time(process.pid)), 20))
        assert process.wait(10) == -signal.SIGKILL


def test_a_process_is_found_by_all_that_is_known_of_it(sleeper: subprocess.Popen[bytes]) -> None:
    started = start_time(sleeper.pid) / os.sysconf("SC_CLK_TCK")
    words, here = ["sleep", "60.125"], network_namespace()
    assert find_process(words, here, started - 5) == sleeper.pid
    assert find_process(["sleep", "60.126"], here, started - 5) == 0
    assert find_process(words, "net:[1]", started - 5) == 0
    assert find_process(words, here, started + 5) == 0
    assert find_process(words, here, started - 5, within=1.0) == 0


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 5, 2**40])
def test_numbers_that_name_no_process(pid: int) -> None:
    assert not asyncio.run(end_process(pid, 5))
    assert start_time(pid) == 0


def test_only_a_socket_at_which_nobody_listens_is_removed(tmp_path: Path) -> None:
    dead, live, plain = tmp_path / "dead.sock", tmp_path / "live.sock", tmp_path / "plain.sock"
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(dead))
    plain.write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(live))
        listening.listen()
        for path in (dead, live, plain, tmp_path / "missing.sock"):
            _remove_dead_socket(path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["live.sock", "plain.sock"]
