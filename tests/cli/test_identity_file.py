"""The private key's file: made once, private, never overwritten, whole whenever somebody looks."""

import base64
import os
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from rxnet.errors import ConfigError
from rxnet.files import write_private
from rxnet.identity import load_identity, load_or_make_identity
from rxnet.wire.box import generate_private_key, public_key


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


def test_its_public_key_is_what_another_library_computes(file: Path) -> None:
    key, _ = load_or_make_identity(file)
    raw = X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    assert public_key(key) == base64.b64encode(raw).decode()


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
    key = base64.b64encode(generate_private_key()).decode()
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
