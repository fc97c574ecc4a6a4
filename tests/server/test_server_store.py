"""The store: what survives, what is refused, and what a kill -9 leaves."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from rxnet.errors import ConfigError, DirectoryInUse
from rxnet.files import make_private
from rxnet.model import PeerKey
from rxnet.server.addressing import NetworkFull
from rxnet.server.records import SetupKeyRefused, new_setup_key_text, normal_setup_key
from rxnet.server.store import SCHEMA_VERSION, Store, hold

FILE = "control-plane.db"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(number: int) -> PeerKey:
    return PeerKey(f"key-{number}")


def register(store: Store, number: int, setup_key: str, most: int = 100, hostname: str = "host") -> bool:
    return store.register(key(number), setup_key, hostname, b"meta", b"ssh", most=most)[1]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    make_private(tmp_path / "cp")
    return tmp_path / "cp"


def test_everything_survives_reopening(directory: Path) -> None:
    store = Store(directory)
    text = new_setup_key_text()
    store.add_setup_key(text, "k", usage_limit=0, expires_in=None)
    for number in range(5):
        assert register(store, number, text)
    store.touch({key(3): 4242.0})
    store.update_peer(key(2), "renamed", b"meta2", b"ssh2")
    assert store.delete_peer(key(0)) and not store.delete_peer(key(0))
    before = store.network, store.peers(), store.setup_keys()
    store.close()
    again = Store(directory)
    assert (again.network, again.peers(), again.setup_keys()) == before
    assert again.network.serial == 6
    assert again.setup_keys()[0].used == 5
    assert next(peer for peer in again.peers() if peer.key == key(3)).last_seen == 4242.0
    assert len({peer.address for peer in again.peers()}) == len({peer.label for peer in again.peers()}) == 4
    again.close()


def test_the_same_key_again_spends_nothing(directory: Path) -> None:
    store = Store(directory)
    text = new_setup_key_text()
    store.add_setup_key(text, "one-off", usage_limit=1, expires_in=None)
    first, new = store.register(key(1), text, "host", b"", b"", most=10)
    again, new_again = store.register(key(1), "whatever", "host", b"", b"", most=10)
    assert (new, new_again) == (True, False) and first == again
    with pytest.raises(SetupKeyRefused):
        register(store, 2, text)
    assert store.network.serial == 1 and len(store.peers()) == 1
    store.close()


def test_limits_expiry_and_revocation(directory: Path) -> None:
    clock = Clock()
    store = Store(directory, clock=clock)
    two, hour, revoked = (new_setup_key_text() for _ in range(3))
    store.add_setup_key(two, "two", usage_limit=2, expires_in=None)
    store.add_setup_key(hour, "hour", usage_limit=0, expires_in=3600)
    number = store.add_setup_key(revoked, "revoked", usage_limit=0, expires_in=None).id
    assert register(store, 1, two.lower()) and register(store, 2, two)
    with pytest.raises(SetupKeyRefused):
        register(store, 3, two)
    clock.now += 3599
    assert register(store, 4, hour)
    clock.now += 1
    with pytest.raises(SetupKeyRefused):
        register(store, 5, hour)
    assert register(store, 6, revoked)
    assert store.revoke_setup_key(number) and not store.revoke_setup_key(999)
    for text in (revoked, new_setup_key_text(), "", "not a uuid", "00000000-0000-0000-0000-000000000000"):
        with pytest.raises(SetupKeyRefused):
            register(store, 7, text)
    assert [peer.key for peer in store.peers()] == [key(n) for n in (1, 2, 4, 6)]
    store.close()


def test_a_full_network_refuses_without_spending(directory: Path) -> None:
    store = Store(directory, random=Random(1))
    text = new_setup_key_text()
    store.add_setup_key(text, "k", usage_limit=0, expires_in=None)
    for number in range(3):
        register(store, number, text, most=3)
    with pytest.raises(NetworkFull, match="limit of 3"):
        register(store, 4, text, most=3)
    assert store.setup_keys()[0].used == 3 and store.network.serial == 3
    store.delete_peer(key(0))
    assert register(store, 4, text, most=3)
    store.close()


def test_setup_keys_are_kept_hashed_only(directory: Path) -> None:
    store = Store(directory)
    text = new_setup_key_text()
    assert normal_setup_key(text) == text == text.upper()
    found = store.add_setup_key(text, "k", usage_limit=0, expires_in=None)
    register(store, 1, text)
    store.close()
    content = b"".join(path.read_bytes() for path in directory.iterdir())
    assert text.encode() not in content and text.encode()[6:] not in content
    assert text[6:] not in repr(found)


def test_the_private_key_is_not_shown(directory: Path) -> None:
    store = Store(directory)
    assert "private" not in repr(store.network)
    store.close()


def test_files_are_private(directory: Path) -> None:
    store = Store(directory)
    store.add_setup_key(new_setup_key_text(), "k", usage_limit=0, expires_in=None)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    store.close()


def test_an_open_file_mode_is_mended(directory: Path) -> None:
    Store(directory).close()
    (directory / FILE).chmod(0o644)
    Store(directory).close()
    assert stat.S_IMODE((directory / FILE).stat().st_mode) == 0o600


def test_a_newer_schema_is_refused_untouched(directory: Path) -> None:
    Store(directory).close()
    with sqlite3.connect(directory / FILE) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(ConfigError, match=rf"schema {SCHEMA_VERSION + 1}, this rxnet knows up to {SCHEMA_VERSION}"):
        Store(directory)


def test_a_damaged_file_is_refused(directory: Path) -> None:
    store = Store(directory)
    store.add_setup_key(new_setup_key_text(), "k", usage_limit=0, expires_in=None)
    store.close()
    content = (directory / FILE).read_bytes()
    (directory / FILE).write_bytes(b"not a data base at all" * 100)
    with pytest.raises(ConfigError, match=r"control-plane\.db is damaged.*restore it from a copy"):
        Store(directory)
    (directory / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match="damaged"):
        Store(directory)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE network SET prefix = 'nonsense'",
        "UPDATE network SET private_key = x'00'",
        "DELETE FROM network",
        "INSERT INTO peers VALUES ('k', -5, 'fd00::1', 'l', 'h', x'', x'', 0, 0)",
        "INSERT INTO peers VALUES ('k', 5, 'nonsense', 'l', 'h', x'', x'', 0, 0)",
    ],
)
def test_bad_rows_are_refused(directory: Path, damage: str) -> None:
    Store(directory).close()
    with sqlite3.connect(directory / FILE) as database:
        database.execute(damage)
    database.close()
    with pytest.raises(ConfigError, match="damaged"):
        Store(directory)


def test_a_data_base_of_another_program_is_refused(directory: Path) -> None:
    with sqlite3.connect(directory / FILE) as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()
    with pytest.raises(ConfigError, match="another program"):
        Store(directory)


def test_symbolic_links_are_not_followed(directory: Path, tmp_path: Path) -> None:
    (directory / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic link"):
        Store(directory)
    assert not (tmp_path / "elsewhere").exists()


def test_one_process_at_a_time_and_nobody_else_looks_in(tmp_path: Path) -> None:
    directory = tmp_path / "cp"
    with hold(directory):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        with pytest.raises(DirectoryInUse, match=rf"in use by another rxnet server \(process {os.getpid()}\)"):
            hold(directory).__enter__()
    directory.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        hold(directory).__enter__()


_REGISTER = """
import sys
from pathlib import Path
from rxnet.model import PeerKey
from rxnet.server.records import new_setup_key_text
from rxnet.server.store import Store
store = Store(Path(sys.argv[1]))
text = new_setup_key_text()
store.add_setup_key(text, "k", usage_limit=0, expires_in=None)
number = len(store.peers())
while True:
    peer, _ = store.register(PeerKey(f"{sys.argv[2]}-{number}"), text, "host", b"m" * 500, b"", most=60000)
    print(peer.key, peer.address, flush=True)  # told: from here on it must not be forgotten
    number += 1
"""


def test_what_was_told_survives_kill_nine(directory: Path) -> None:
    told: dict[str, str] = {}
    for round_number, count in enumerate((1, 7, 40)):
        process = subprocess.Popen(
            [sys.executable, "-c", _REGISTER, str(directory), f"r{round_number}"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        for _ in range(count):
            name, address = process.stdout.readline().split()
            told[name] = address
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=20)
        assert process.returncode == -signal.SIGKILL
        for line in rest.splitlines():
            if len(line.split()) == 2:
                told[line.split()[0]] = line.split()[1]
        store = Store(directory)  # checks itself
        kept = {peer.key: str(peer.address) for peer in store.peers()}
        assert told.items() <= kept.items()
        assert len(kept) - len(told) <= round_number + 1  # at most the one in flight, each time
        assert store.network.serial == len(kept) == sum(k.used for k in store.setup_keys())
        assert len(set(kept.values())) == len(kept)
        store.close()
