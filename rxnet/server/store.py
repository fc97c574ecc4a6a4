"""What the control plane must not forget, in SQLite: network, peers, setup keys, the serial counter.

Synchronous and for one thread at a time (`Registry` runs it on a thread of its own: a commit waits for the disk).
Every change is one transaction in WAL mode with `synchronous=FULL`, so a kill or a power cut leaves the state of
before or after it. The directory is 0700 and the file 0600, because the server's private key is inside. One process
holds the directory at a time (`hold`); a second one is told so, and a killed one leaves no lock behind.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from random import Random, SystemRandom

from rxnet.errors import ConfigError
from rxnet.files import create_private_file, lock_directory
from rxnet.model import PeerKey
from rxnet.server.addressing import (
    NetworkFull,
    free_address,
    free_address_v6,
    label_choices,
    random_prefix,
    random_prefix_v6,
)
from rxnet.server.records import (
    Network,
    SetupKey,
    SetupKeyRefused,
    StoredPeer,
    normal_setup_key,
    setup_key_hash,
)
from rxnet.wire.box import generate_private_key

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x72786E74  # "rxnt"
_BUSY_TIMEOUT = 5.0
_MOST_SETUP_KEYS = 10_000

_SCHEMA = f"""
CREATE TABLE network (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    prefix TEXT NOT NULL,
    prefix_v6 TEXT NOT NULL,
    private_key BLOB NOT NULL,
    serial INTEGER NOT NULL
) STRICT;
CREATE TABLE peers (
    key TEXT PRIMARY KEY,
    address INTEGER NOT NULL UNIQUE,
    address_v6 TEXT NOT NULL UNIQUE,
    label TEXT NOT NULL UNIQUE,
    hostname TEXT NOT NULL,
    meta BLOB NOT NULL,
    ssh_key BLOB NOT NULL,
    created REAL NOT NULL,
    last_seen REAL NOT NULL
) STRICT;
CREATE TABLE setup_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    name TEXT NOT NULL,
    usage_limit INTEGER NOT NULL,
    used INTEGER NOT NULL,
    created REAL NOT NULL,
    expires REAL,
    revoked INTEGER NOT NULL
) STRICT;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


_NOT_ITS_FAULT = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    )
)
_SELECT_PEERS = "SELECT key, address, address_v6, label, hostname, meta, ssh_key, created, last_seen FROM peers"
_SELECT_SETUP_KEYS = "SELECT id, name, hint, usage_limit, used, created, expires, revoked FROM setup_keys"


def hold(directory: Path) -> AbstractContextManager[None]:
    """Hold the directory of a control plane, made if need be, for this process.

    Raises `DirectoryInUse` at once if another process holds it, `ConfigError` if it is not private.
    """
    return lock_directory(directory, "rxnet server", secret=True)


class Store:
    """The open data base. Methods block for as long as the disk does and raise sqlite3 errors of a failing one."""

    def __init__(
        self, directory: Path, *, clock: Callable[[], float] = time.time, random: Random | None = None
    ) -> None:
        """Open or create `directory`/control-plane.db; the caller holds the directory (`hold`).

        Raises `ConfigError` if the file is not ours, is damaged or comes from a newer version.
        """
        self.path = directory / "control-plane.db"
        self._clock = clock
        self._random = random or SystemRandom()
        create_private_file(self.path)
        self._connection = sqlite3.connect(
            self.path, isolation_level=None, timeout=_BUSY_TIMEOUT, check_same_thread=False
        )
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._prepare()
            self._network = self._read_network()
            self._taken = {peer.address for peer in self.peers()}
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ConfigError(_complaint(self.path, error)) from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; what was committed is safe with or without this."""
        self._connection.close()

    # -- opening

    def _prepare(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if version == 0 and tables == 0:
            self._create()
            return
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        if application != _APPLICATION_ID:
            raise ConfigError(f"{self.path} is the data base of another program; choose another directory")
        if version > SCHEMA_VERSION:
            raise ConfigError(
                f"{self.path} has schema {version}, this rxnet knows up to {SCHEMA_VERSION}: "
                "use the newer rxnet that wrote it, or another directory"
            )
        complaint = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if complaint != "ok":
            raise sqlite3.DatabaseError(complaint)

    def _create(self) -> None:
        random = self._random
        with self._transaction() as database:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                database.execute(statement)
            database.execute(
                "INSERT INTO network VALUES (1, ?, ?, ?, 0)",
                (str(random_prefix(random)), str(random_prefix_v6(random)), generate_private_key()),
            )

    def _read_network(self) -> Network:
        row = self._connection.execute("SELECT prefix, prefix_v6, serial, private_key FROM network").fetchone()
        try:
            prefix, prefix_v6, serial, private_key = row
            if len(private_key) != 32:
                raise ValueError("the private key has a wrong length")
            return Network(IPv4Network(prefix), IPv6Network(prefix_v6), serial, private_key)
        except (TypeError, ValueError) as error:
            raise sqlite3.DatabaseError(f"bad row in network: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._connection
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    # -- network and peers

    @property
    def network(self) -> Network:
        """Prefixes, serial and key as of the last change."""
        return self._network

    def peers(self) -> list[StoredPeer]:
        """All peers in the order of their keys."""
        try:
            return [_peer(row) for row in self._connection.execute(f"{_SELECT_PEERS} ORDER BY key")]
        except (TypeError, ValueError) as error:
            raise sqlite3.DatabaseError(f"bad row in peers: {error}") from error

    def register(
        self, key: PeerKey, setup_key: str, hostname: str, meta: bytes, ssh_key: bytes, *, most: int
    ) -> tuple[StoredPeer, bool]:
        """Register a peer at the cost of one use of the setup key; (peer, whether it is new).

        A key that is registered already gets its peer back and spends nothing: that is a client whose first answer
        was lost. Raises `SetupKeyRefused`; `NetworkFull` beyond `most` peers.
        """
        now = self._clock()
        with self._transaction() as database:
            known = database.execute(f"{_SELECT_PEERS} WHERE key = ?", (key,)).fetchone()
            if known is not None:
                return _peer(known), False
            self._spend(database, setup_key, now)
            if len(self._taken) >= most:
                raise NetworkFull(f"the network has its limit of {most} peers")
            address = free_address(self._network.prefix, self._taken.__contains__, self._random)
            peer = StoredPeer(
                key,
                address,
                free_address_v6(self._network.prefix_v6, self._is_taken_v6, self._random),
                next(label for label in label_choices(hostname, address) if not self._is_taken_label(label)),
                hostname,
                meta,
                ssh_key,
                now,
                now,
            )
            database.execute(
                "INSERT INTO peers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (key, int(address), str(peer.address_v6), peer.label, hostname, meta, ssh_key, now, now),
            )
            serial = self._bump(database)
        self._taken.add(address)
        self._set_serial(serial)
        return peer, True

    def update_peer(self, key: PeerKey, hostname: str, meta: bytes, ssh_key: bytes) -> None:
        """Keep what a known peer says about itself now; address and label stay."""
        with self._transaction() as database:
            database.execute(
                "UPDATE peers SET hostname = ?, meta = ?, ssh_key = ? WHERE key = ?", (hostname, meta, ssh_key, key)
            )

    def touch(self, seen: dict[PeerKey, float]) -> None:
        """Keep when peers were last seen."""
        with self._transaction() as database:
            database.executemany(
                "UPDATE peers SET last_seen = ? WHERE key = ?", [(at, key) for key, at in seen.items()]
            )

    def delete_peer(self, key: PeerKey) -> bool:
        """Remove a peer; its address and label become free. False if there is none."""
        with self._transaction() as database:
            row = database.execute("DELETE FROM peers WHERE key = ? RETURNING address", (key,)).fetchone()
            if row is None:
                return False
            serial = self._bump(database)
        self._taken.discard(IPv4Address(row[0]))
        self._set_serial(serial)
        return True

    def _bump(self, database: sqlite3.Connection) -> int:
        serial: int = database.execute("UPDATE network SET serial = serial + 1 RETURNING serial").fetchone()[0]
        return serial

    def _set_serial(self, serial: int) -> None:
        old = self._network
        self._network = Network(old.prefix, old.prefix_v6, serial, old.private_key)

    def _is_taken_v6(self, address: IPv6Address) -> bool:
        return self._exists("SELECT 1 FROM peers WHERE address_v6 = ?", str(address))

    def _is_taken_label(self, label: str) -> bool:
        return self._exists("SELECT 1 FROM peers WHERE label = ?", label)

    def _exists(self, query: str, value: str) -> bool:
        return self._connection.execute(query, (value,)).fetchone() is not None

    # -- setup keys

    def setup_keys(self) -> list[SetupKey]:
        """All setup keys, oldest first."""
        return [_setup_key(row) for row in self._connection.execute(f"{_SELECT_SETUP_KEYS} ORDER BY id")]

    def find_setup_key(self, text: str) -> SetupKey | None:
        """The setup key with this (normal) text."""
        row = self._connection.execute(f"{_SELECT_SETUP_KEYS} WHERE hash = ?", (setup_key_hash(text),)).fetchone()
        return None if row is None else _setup_key(row)

    def add_setup_key(self, text: str, name: str, *, usage_limit: int, expires_in: float | None) -> SetupKey:
        """Keep a setup key under the hash of its (normal) text. `usage_limit` 0: any number; `expires_in` seconds."""
        now = self._clock()
        expires = None if expires_in is None else now + expires_in
        with self._transaction() as database:
            (count,) = database.execute("SELECT count(*) FROM setup_keys").fetchone()
            if count >= _MOST_SETUP_KEYS:
                raise ConfigError(f"there are {count} setup keys already, the limit; use an existing one")
            row = database.execute(
                "INSERT INTO setup_keys (hash, hint, name, usage_limit, used, created, expires, revoked)"
                " VALUES (?, ?, ?, ?, 0, ?, ?, 0) RETURNING id",
                (setup_key_hash(text), text[:5], name, usage_limit, now, expires),
            ).fetchone()
        return SetupKey(row[0], name, text[:5], usage_limit, 0, now, expires, False)

    def revoke_setup_key(self, number: int) -> bool:
        """Make a setup key useless from now on; peers registered with it stay. False if there is none."""
        with self._transaction() as database:
            return database.execute("UPDATE setup_keys SET revoked = 1 WHERE id = ?", (number,)).rowcount > 0

    def _spend(self, database: sqlite3.Connection, text: str, now: float) -> None:
        normal = normal_setup_key(text)
        found = None if normal is None else self.find_setup_key(normal)
        if found is None or not found.is_valid(now):
            raise SetupKeyRefused
        database.execute("UPDATE setup_keys SET used = used + 1 WHERE id = ?", (found.id,))


def _complaint(path: Path, error: sqlite3.DatabaseError) -> str:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the low byte is the kind
    if code in _NOT_ITS_FAULT:
        return f"cannot use {path}: {error}; look at the disk, and for another program that has the file open"
    mend = "restore it from a copy, or move it away to start an empty network"
    return f"{path} is damaged or not a data base of rxnet server ({error}); {mend}"


def _peer(row: tuple[str, int, str, str, str, bytes, bytes, float, float]) -> StoredPeer:
    key, address, address_v6, label, hostname, meta, ssh_key, created, last_seen = row
    where = IPv4Address(address), IPv6Address(address_v6)
    return StoredPeer(PeerKey(key), *where, label, hostname, meta, ssh_key, created, last_seen)


def _setup_key(row: tuple[int, str, str, int, int, float, float | None, int]) -> SetupKey:
    number, name, hint, usage_limit, used, created, expires, revoked = row
    return SetupKey(number, name, hint, usage_limit, used, created, expires, bool(revoked))
