"""Private directories and files: whose they are, who else may look, who holds them, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rxnet.errors import ConfigError, DirectoryInUse
from rxnet.files import (
    create_private_file,
    lock_directory,
    open_private,
    private_directory,
    read_private,
    write_private,
)

STRANGER = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def enter(path: Path, *, create: bool = True, secret: bool = False) -> None:
    with private_directory(path, create=create, secret=secret) as descriptor:
        assert os.path.samestat(os.fstat(descriptor), path.stat())


# -- directories -----------------------------------------------------------------------------------------------------


def test_a_directory_is_made_private_with_its_parents(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        enter(tmp_path / "a" / "b", create=False)
    enter(tmp_path / "a" / "b")
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700


@pytest.mark.parametrize("bits", [0o775, 0o707, 0o1777])
def test_others_may_not_write_to_it(tmp_path: Path, bits: int) -> None:
    tmp_path.chmod(bits)
    with pytest.raises(ConfigError, match="chmod go-w"):
        enter(tmp_path)


def test_into_one_with_secrets_nobody_else_looks(tmp_path: Path) -> None:
    fresh, used = tmp_path / "fresh", tmp_path / "used"
    for path in (fresh, used):
        path.mkdir(mode=0o755)
        enter(path)
        assert mode(path) == 0o755
    (used / "file").touch()
    enter(fresh, secret=True)
    assert mode(fresh) == 0o700
    with pytest.raises(ConfigError, match="chmod 700"):
        enter(used, secret=True)
    assert mode(used) == 0o755  # it has content: its owner decides


@needs_root
def test_directories_and_links_of_strangers_are_refused(tmp_path: Path) -> None:
    theirs, ours, link = tmp_path / "theirs", tmp_path / "ours", tmp_path / "link"
    for path in (theirs, ours):
        path.mkdir(mode=0o700)
    link.symlink_to(ours)
    enter(link)
    os.chown(theirs, STRANGER, STRANGER)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(ConfigError, match=f"belongs to user {STRANGER}"):
        enter(theirs)
    with pytest.raises(ConfigError, match=f"symbolic link of user {STRANGER}"):
        enter(link)


# -- the lock --------------------------------------------------------------------------------------------------------


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    with lock_directory(directory, "thing"):
        assert mode(directory) == 0o700 and mode(directory / "lock") == 0o600
        with pytest.raises(DirectoryInUse) as caught, lock_directory(directory, "thing", mend="wait"):
            raise AssertionError
        assert str(caught.value) == f"{directory} is in use by another thing (process {os.getpid()}): wait"
    with lock_directory(directory, "thing"):
        pass


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"\xff" * 30])
def test_a_holder_that_did_not_say_who_it_is(tmp_path: Path, content: bytes) -> None:
    with lock_directory(tmp_path, "thing"):
        (tmp_path / "lock").write_bytes(content)
        with pytest.raises(DirectoryInUse, match="by another thing: stop it"), lock_directory(tmp_path, "thing"):
            raise AssertionError


HOLDER = """
import sys, time
from pathlib import Path
from rxnet.files import lock_directory
with lock_directory(Path(sys.argv[1]), "thing"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(DirectoryInUse, match=f"process {holder.pid}"), lock_directory(tmp_path, "thing"):
            raise AssertionError
        holder.kill()
    with lock_directory(tmp_path, "thing"):
        pass


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_a_lock_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    lock = tmp_path / "lock"
    if kind == "link":
        lock.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(lock, 0o600)
    else:
        lock.mkdir()
    with pytest.raises(ConfigError, match=str(lock)), lock_directory(tmp_path, "thing"):
        raise AssertionError
    assert not (tmp_path / "elsewhere").exists()


# -- files -----------------------------------------------------------------------------------------------------------


def test_an_existing_file_keeps_its_content_and_loses_its_onlookers(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    create_private_file(path)
    assert path.read_bytes() == b"" and mode(path) == 0o600 and mode(path.parent) == 0o700
    path.write_bytes(b"content")
    path.chmod(0o644)
    create_private_file(path)
    assert path.read_bytes() == b"content" and mode(path) == 0o600


def test_an_opened_file_is_read_written_and_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        descriptor = open_private(tmp_path / "file", os.O_APPEND)
        os.write(descriptor, b"line\n")
        os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"line\nline\n"


@needs_root
def test_a_file_of_a_stranger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, b"theirs")
    os.chown(path, STRANGER, STRANGER)
    for attempt in (lambda: create_private_file(path), lambda: read_private(path, secret=True)):
        with pytest.raises(ConfigError, match=f"belongs to user {STRANGER}"):
            attempt()


def test_links_are_not_followed_to_secrets(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    write_private(target, b"x")
    link.symlink_to(target)
    for attempt in (lambda: create_private_file(link), lambda: read_private(link, secret=True)):
        with pytest.raises(ConfigError, match="symbolic link: put the file itself there"):
            attempt()
    assert read_private(link, secret=False) == b"x"


def test_written_once(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert read_private(path, secret=True) is None
    write_private(path, b"text", replace=False)
    assert mode(path) == 0o600
    with pytest.raises(FileExistsError):
        write_private(path, b"other", replace=False)
    assert read_private(path, secret=True) == b"text"
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_private(path, secret=True)


def test_anywhere_if_the_caller_says_so(tmp_path: Path) -> None:
    path = tmp_path / "file"
    tmp_path.chmod(0o1777)
    for attempt in (lambda: write_private(path, b"x"), lambda: read_private(path, secret=True)):
        with pytest.raises(ConfigError, match="others can write to the directory"):
            attempt()
    write_private(path, b"x", anywhere=True)
    assert read_private(path, secret=True, anywhere=True) == b"x"
    path.chmod(0o604)  # the file itself is looked at all the same
    with pytest.raises(ConfigError, match="chmod 600"):
        read_private(path, secret=True, anywhere=True)


WRITER = """
import sys
from pathlib import Path
from rxnet.files import write_private
n = 0
while True:
    n += 1
    write_private(Path(sys.argv[1]), (f"{n} " * 20000).encode())
    print("written", flush=True)
"""


def test_killed_while_writing(tmp_path: Path) -> None:
    """Whenever the writer is killed, the file is one of the versions, whole."""
    file = tmp_path / "d" / "file"
    for attempt in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer.stdout as out:
            for _ in range(1 + 7 * attempt):  # different moments for the kill
                out.readline()
                assert_whole(file)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        assert_whole(file)


def assert_whole(file: Path) -> None:
    words = file.read_bytes().split()
    assert len(words) == 20000 and len(set(words)) == 1
