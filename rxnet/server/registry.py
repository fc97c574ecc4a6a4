"""The store and the view of the network, held together for the event loop.

Changes are committed on one thread, in order; then, back in the loop, the view takes them over and who subscribed is
told. Once begun, a change runs to its end even if the caller is cancelled: a client that hangs up in the middle of
its registration must not leave a committed peer that nobody hears of.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ParamSpec, TypeVar

from rxnet.errors import ConfigError
from rxnet.log import logger
from rxnet.model import PeerKey
from rxnet.server.network import NetworkView
from rxnet.server.records import SetupKey, StoredPeer, new_setup_key_text, normal_setup_key
from rxnet.server.store import Store

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Registry:
    """The one way to change what the control plane knows. Methods belong to one event loop."""

    def __init__(
        self, store: Store, view: NetworkView, *, most_peers: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.view = view
        self._store = store
        self._most_peers = most_peers
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "rxnet-server-store")
        self._running: set[asyncio.Task[object]] = set()
        self._seen: dict[PeerKey, float] = {}
        self._touching = False
        self._subscribers: list[tuple[Callable[[], None], Callable[[PeerKey], None]]] = []

    async def load(self) -> None:
        """Fill the view with what the store has; a thread does it, because thousands of peers take a second."""

        def fill() -> None:
            for peer in self._store.peers():
                self.view.put(peer)

        await self._call(fill)

    def subscribe(self, changed: Callable[[], None], deleted: Callable[[PeerKey], None]) -> None:
        """Have `changed` called when maps change, and `deleted` with the key before it when a peer goes."""
        self._subscribers.append((changed, deleted))

    async def aclose(self) -> None:
        """Finish what is running and close the store."""
        while self._running:
            await asyncio.wait(self._running)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()

    # -- peers

    async def register(
        self, key: PeerKey, setup_key: str, hostname: str, meta: bytes, ssh_key: bytes
    ) -> tuple[StoredPeer, bool]:
        """Register a peer, see `Store.register`; (peer, whether it is new)."""
        return await self._finish(self._register(key, setup_key, hostname, meta, ssh_key))

    async def _register(
        self, key: PeerKey, setup_key: str, hostname: str, meta: bytes, ssh_key: bytes
    ) -> tuple[StoredPeer, bool]:
        peer, new = await self._call(
            self._store.register, key, setup_key, hostname, meta, ssh_key, most=self._most_peers
        )
        if new:
            self._membership_changed(peer)
        return peer, new

    async def update(self, key: PeerKey, hostname: str, meta: bytes, ssh_key: bytes) -> None:
        """Take over what a known peer says about itself now; writes only if it differs, tells only if maps do."""
        peer = self.view.get(key)
        if peer is not None and (peer.hostname, peer.meta, peer.ssh_key) != (hostname, meta, ssh_key):
            await self._finish(self._update(key, hostname, meta, ssh_key))

    async def _update(self, key: PeerKey, hostname: str, meta: bytes, ssh_key: bytes) -> None:
        await self._call(self._store.update_peer, key, hostname, meta, ssh_key)
        peer = self.view.get(key)  # it may have been deleted while we waited
        if peer is not None and self.view.put(replace(peer, hostname=hostname, meta=meta, ssh_key=ssh_key)):
            self._tell()

    async def delete(self, key: PeerKey) -> bool:
        """Remove a peer for good. False if there is none."""
        return await self._finish(self._delete(key))

    async def _delete(self, key: PeerKey) -> bool:
        if not await self._call(self._store.delete_peer, key):
            return False
        self._membership_changed(key)
        return True

    def touch(self, key: PeerKey) -> None:
        """Note that the peer was seen now; written soon, together with others."""
        if self.view.get(key) is None:
            return
        self._seen[key] = now = self._clock()
        self.view.note_seen(key, now)
        if not self._touching:
            self._touching = True
            self._start(self._write_seen())

    async def _write_seen(self) -> None:
        try:
            while self._seen:  # those that come while we write go together next time
                seen, self._seen = self._seen, {}
                await self._call(self._store.touch, seen)
        except Exception as error:
            logger.debug("the times when peers were last seen could not be kept: {}", error)
        finally:
            self._touching = False

    def _membership_changed(self, change: StoredPeer | PeerKey) -> None:
        self.view.serial = self._store.network.serial
        if isinstance(change, StoredPeer):
            self.view.put(change)
        else:
            self.view.remove(change)
            for _, deleted in self._subscribers:
                deleted(change)
        self._tell()

    def _tell(self) -> None:
        for changed, _ in self._subscribers:
            changed()

    # -- setup keys

    async def setup_keys(self) -> list[SetupKey]:
        """All setup keys, oldest first."""
        return await self._call(self._store.setup_keys)

    async def create_setup_key(
        self, name: str, *, reusable: bool = False, usage_limit: int = 0, expires_in: float | None = None
    ) -> tuple[str, SetupKey]:
        """Make a setup key; its text is given once, here, and not kept. Raises `ConfigError` for odd limits."""
        text = new_setup_key_text()
        return text, await self.add_setup_key(
            text, name, reusable=reusable, usage_limit=usage_limit, expires_in=expires_in
        )

    async def add_setup_key(
        self, text: str, name: str, *, reusable: bool = False, usage_limit: int = 0, expires_in: float | None = None
    ) -> SetupKey:
        """Take over the setup key with this text, or find it if it is known."""
        normal = normal_setup_key(text)
        if normal is None:
            raise ConfigError("a setup key is the text of a UUID, 8-4-4-4-12 hexadecimal digits; this is not")
        if not 0 <= usage_limit < 1 << 31:
            raise ConfigError(f"a usage limit of {usage_limit} makes no sense; 0 means any number of peers")
        if expires_in is not None and not 0 < expires_in < 1e10:
            raise ConfigError(f"a setup key cannot expire in {expires_in} seconds; give a time in the future")
        if not reusable and usage_limit > 1:
            raise ConfigError(f"a usage limit of {usage_limit} needs a reusable setup key")
        known = await self._call(self._store.find_setup_key, normal)
        if known is not None:
            return known
        limit = usage_limit if reusable else 1
        return await self._call(self._store.add_setup_key, normal, name[:100], usage_limit=limit, expires_in=expires_in)

    async def revoke_setup_key(self, number: int) -> bool:
        """Make a setup key useless from now on. False if there is none with this number."""
        return await self._call(self._store.revoke_setup_key, number)

    def is_valid(self, key: SetupKey) -> bool:
        """Tell whether a peer could register with this setup key now."""
        return key.is_valid(self._clock())

    # -- running things

    async def _call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run on the store's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))

    async def _finish(self, work: Coroutine[object, object, _T]) -> _T:
        """Await the work, but let it run on if we are cancelled."""
        return await asyncio.shield(self._start(work))

    def _start(self, work: Coroutine[object, object, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[_T]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone; asyncio would complain that nobody looked
