"""The private key's file: made once, private, never overwritten, whole whenever somebody looks."""

import base64
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from rxnet.errors import ConfigError
from rxnet.files import write_private
from rxnet.identity import load_identity, load_or_make_identity, new_private_key, public_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "private.key"


def test_made_once(file: Path) -> None:
    assert load_identity(file) is None
    key, new = load_or_make_identity(file)
    assert new and len(key) == 32
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert load_or_make_identity(file) == (key, False)
    assert load_identity(file) == key


def test_clamped_and_public() -> None:
    key = new_private_key()
    assert key[0] & 7 == 0 and key[31] & 192 == 64
    raw = X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    assert public_key(key) == base64.b64encode(raw).decode()
    with pytest.raises(ConfigError, match="32 bytes"):
        public_key(key[:31])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_others_may_not_read_it(file: Path, mode: int) -> None:
    load_or_make_identity(file)
    file.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_or_make_identity(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not base64!",
        base64.b64encode(b"short"),
        base64.b64encode(bytes(33)),
        base64.b64encode(bytes(32)),
        b"\xff\xfe",
    ],
)
def test_a_corrupted_file_is_named_and_kept(file: Path, content: bytes) -> None:
    write_private(file, content)
    with pytest.raises(ConfigError, match="restore it from a backup") as caught:
        load_or_make_identity(file)
    assert str(file) in str(caught.value)
    assert file.read_bytes() == content


def test_an_error_does_not_show_the_key(file: Path) -> None:
    key = base64.b64encode(new_private_key()).decode()
    write_private(file, (key + "x").encode())
    with pytest.raises(ConfigError) as caught:
        load_identity(file)
    assert key not in str(caught.value)


def test_not_through_a_link_nor_from_a_pipe(file: Path, tmp_path: Path) -> None:
    load_or_make_identity(file)
    link = file.parent / "link.key"
    link.symlink_to(file)
    with pytest.raises(ConfigError, match="symbolic link"):
        load_identity(link)
    pipe = file.parent / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        load_identity(pipe)


def test_a_dangling_link_is_no_invitation(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir(mode=0o700)
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        load_or_make_identity(file)
    assert not (tmp_path / "elsewhere").exists()


def test_two_starts_at_once_agree(file: Path) -> None:
    found: list[bytes] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        found.append(load_or_make_identity(file)[0])

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and set(found) == {load_identity(file)}


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
