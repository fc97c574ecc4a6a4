"""Administration of a control plane: peers and setup keys, for people and programs.

One set of operations serves the control socket of a running server and the closed data base of a stopped one, see
`rxnet.server.control.administer`. Operations and answers are JSON values; errors are `ConfigError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from rxnet.errors import ConfigError
from rxnet.model import PeerKey
from rxnet.server.meta import about_kept
from rxnet.server.records import SetupKey, StoredPeer
from rxnet.server.registry import Registry

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """One registered peer. Times are seconds since 1970."""

    key: PeerKey
    address: IPv4Address
    address_v6: IPv6Address
    fqdn: str
    hostname: str
    version: str
    connected: bool
    """It holds a Sync stream now."""
    created: float
    last_seen: float

    def as_json(self) -> Json:
        """The same with addresses as text."""
        return {**asdict(self), "address": str(self.address), "address_v6": str(self.address_v6)}


class Administration:
    """The operations. `is_connected` tells whether a peer holds a Sync stream."""

    def __init__(self, registry: Registry, is_connected: Callable[[PeerKey], bool] = lambda key: False) -> None:
        self._registry = registry
        self._is_connected = is_connected
        self._operations: dict[str, Callable[[Mapping[str, Any]], Awaitable[object]]] = {
            "peers": self._peers,
            "delete-peer": self._delete_peer,
            "setup-keys": self._setup_keys,
            "create-setup-key": self._create_setup_key,
            "revoke-setup-key": self._revoke_setup_key,
        }

    def peers(self) -> list[PeerInfo]:
        """All registered peers in the order of their names."""
        return self._sorted(self._registry.view)

    async def perform(self, request: object) -> object:
        """Perform `{"do": NAME, ...}` and give its JSON answer. Raises `ConfigError` for what makes no sense."""
        if not isinstance(request, dict):
            raise ConfigError("an operation is a JSON object")
        operation = self._operations.get(str(request.get("do")))
        if operation is None:
            raise ConfigError(f"{request.get('do')!r} is no operation; there are {', '.join(self._operations)}")
        return await operation(request)

    def _sorted(self, peers: Iterable[StoredPeer]) -> list[PeerInfo]:
        return sorted(map(self._info, peers), key=lambda info: info.fqdn)

    def _info(self, peer: StoredPeer) -> PeerInfo:
        return PeerInfo(
            peer.key,
            peer.address,
            peer.address_v6,
            self._registry.view.fqdn(peer),
            peer.hostname,
            about_kept(peer.meta).agent_version,
            self._is_connected(peer.key),
            peer.created,
            peer.last_seen,
        )

    async def _peers(self, request: Mapping[str, Any]) -> object:
        peers = list(self._registry.view)  # a snapshot for the thread: thousands of peers take a while
        return await asyncio.to_thread(lambda: [info.as_json() for info in self._sorted(peers)])

    async def _delete_peer(self, request: Mapping[str, Any]) -> object:
        which = request.get("peer")
        found = [
            info
            for info in self.peers()
            if which in (info.key, info.fqdn, info.fqdn.partition(".")[0], str(info.address), str(info.address_v6))
        ]
        if not found or not await self._registry.delete(found[0].key):
            raise ConfigError(f"there is no peer {which!r}; `rxnet server peers` lists names, addresses and keys")
        return found[0].as_json()

    async def _setup_keys(self, request: Mapping[str, Any]) -> object:
        return [_setup_key_json(key) for key in await self._registry.setup_keys()]

    async def _create_setup_key(self, request: Mapping[str, Any]) -> object:
        usage_limit, expires_in = request.get("usage_limit", 0), request.get("expires_in")
        if type(usage_limit) is not int or not (expires_in is None or type(expires_in) in (int, float)):
            raise ConfigError("usage limit and expiry of a setup key are numbers")
        text, key = await self._registry.create_setup_key(
            str(request.get("name", "setup key")),
            reusable=request.get("reusable") is True,
            usage_limit=usage_limit,
            expires_in=expires_in,
        )
        return {**_setup_key_json(key), "setup_key": text}

    async def _revoke_setup_key(self, request: Mapping[str, Any]) -> object:
        number = request.get("id")
        if type(number) is not int or not await self._registry.revoke_setup_key(number):
            raise ConfigError(f"there is no setup key {number!r}; `rxnet server setup-keys list` has their numbers")
        return {"id": number}


def _setup_key_json(key: SetupKey) -> Json:
    return asdict(key)
