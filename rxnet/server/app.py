"""The control plane as one object: management and signal on one gRPC port, STUN beside them, a control socket."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType

import grpc

from rxnet.errors import ConfigError, DirectoryInUse
from rxnet.log import logger
from rxnet.model import PeerKey, ServerAddress
from rxnet.server.administration import Administration, PeerInfo
from rxnet.server.control import ControlSocket
from rxnet.server.listening import check_address, server_credentials, where
from rxnet.server.management import ManagementService
from rxnet.server.network import DEFAULT_DOMAIN, Announced, NetworkView, Rules
from rxnet.server.registry import Registry
from rxnet.server.signal import MESSAGE_LIMIT, SignalService
from rxnet.server.store import Store, hold
from rxnet.server.stun import StunServer

DEFAULT_STUN_PORT = 3478
DEFAULT_MOST_PEERS = 10_000

_STOP_GRACE = 1.0
_LOCK_TIMEOUT = 2.0
_LOCK_PAUSE = 0.05
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_GRPC_OPTIONS: tuple[tuple[str, int], ...] = (
    # Without this a second server on the port would silently get half of the connections.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", -1),  # maps of large networks; their size is bounded by the number of peers
    # Go clients ping every 30 s on streams that are silent for hours; by default the third ping is punished.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    # And our own pings, to notice clients that vanished.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
)


class ControlPlane:
    """A running control plane; `async with ControlPlane(...)` starts and stops it.

    `host` and `port` are where gRPC listens (port 0: a free one; `::` is every address of both families);
    `advertised_host` is what peers are told for signal and STUN, and must be given if `host` is a wildcard.
    `stun_port` None switches STUN off, 0 takes a free port. With `certificate` and `private_key` (PEM files) gRPC
    speaks TLS. All state is in `directory`. Starting raises `ConfigError` that names what is wrong.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        advertised_host: str | None = None,
        stun_port: int | None = DEFAULT_STUN_PORT,
        domain: str = DEFAULT_DOMAIN,
        certificate: Path | None = None,
        private_key: Path | None = None,
        rules: Rules = Rules.EXPLICIT,
        most_peers: int = DEFAULT_MOST_PEERS,
    ) -> None:
        if (certificate is None) != (private_key is None):
            raise ConfigError("TLS needs both a certificate and its private key; give both or neither")
        if not 0 < most_peers <= 60_000:
            raise ConfigError(f"a limit of {most_peers} peers is not between 1 and 60000, what the /16 can hold")
        self._directory = directory
        self._host = host or "::"
        self._port = port
        self._advertised = advertised_host or _advertisable(self._host)
        self._stun_port = stun_port
        self._domain = _checked_domain(domain)
        self._tls = (certificate, private_key) if certificate is not None and private_key is not None else None
        self._rules = rules
        self._most_peers = most_peers
        self._cleanup = AsyncExitStack()
        self._signal = SignalService(most_streams=2 * most_peers)

    async def __aenter__(self) -> ControlPlane:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- life

    async def start(self) -> None:
        """Serve. Raises `ConfigError`, and leaves nothing open then."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Tell all clients UNAVAILABLE, close everything. What was registered is on disk already."""
        cleanup, self._cleanup = self._cleanup, AsyncExitStack()
        await cleanup.aclose()

    async def _start(self) -> None:
        clean = self._cleanup
        await check_address(self._host, self._port)
        credentials = await asyncio.to_thread(server_credentials, *self._tls) if self._tls is not None else None
        await _enter_lock(clean, self._directory)
        store = await asyncio.to_thread(Store, self._directory)
        clean.callback(store.close)  # closing twice is fine: the registry does it when nothing runs any more
        loop = asyncio.get_running_loop()

        server = grpc.aio.server(options=_GRPC_OPTIONS, maximum_concurrent_rpcs=4 * self._most_peers + 1000)
        port = self._bind(server, credentials)
        self._address = ServerAddress(self._advertised, port, self._tls is not None)
        stun = await self._start_stun(clean)
        announced = Announced(self._address, stun)
        network = store.network
        view = NetworkView(network, announced, domain=self._domain, rules=self._rules)
        self._registry = registry = Registry(store, view, most_peers=self._most_peers, clock=time.time)
        clean.push_async_callback(registry.aclose)
        await registry.load()
        self._management = ManagementService(registry, network.private_key, clock=loop.time)
        clean.callback(self._management.close)
        self._administration = Administration(registry, self._management.is_connected)
        server.add_generic_rpc_handlers((self._management.handler(), self._signal.handler()))
        await server.start()
        clean.push_async_callback(server.stop, _STOP_GRACE)
        clean.callback(self._signal.stop)
        clean.callback(self._management.end_streams)
        self._signal.start()
        await clean.enter_async_context(ControlSocket(self._directory, self._administration.perform))
        logger.debug("control plane at {}, {} peers", self._address, len(view))

    def _bind(self, server: grpc.aio.Server, credentials: grpc.ServerCredentials | None) -> int:
        address = where(self._host, self._port)
        try:
            if credentials is None:
                return int(server.add_insecure_port(address))
            return int(server.add_secure_port(address, credentials))
        except RuntimeError as error:
            mend = "stop the program that uses the port, or choose another" if self._port else "check the address"
            raise ConfigError(f"cannot listen on {address}; {mend}") from error

    async def _start_stun(self, clean: AsyncExitStack) -> ServerAddress | None:
        if self._stun_port is None:
            return None
        server = StunServer(self._host, self._stun_port)
        await server.start()
        clean.push_async_callback(server.stop)
        return ServerAddress(self._advertised, server.port)

    # -- what it is and knows

    @property
    def address(self) -> ServerAddress:
        """Where peers reach management and signal; its text is the management URL."""
        return self._address

    @property
    def registry(self) -> Registry:
        """Peers and setup keys."""
        return self._registry

    @property
    def stun_address(self) -> ServerAddress | None:
        """Where peers reach STUN; None without."""
        return self._registry.view.announced.stun

    def peers(self) -> list[PeerInfo]:
        """All registered peers in the order of their names."""
        return self._administration.peers()

    async def create_setup_key(
        self,
        name: str = "setup key",
        *,
        reusable: bool = False,
        usage_limit: int = 0,
        expires_in: float | None = None,
    ) -> str:
        """Make a setup key and give its text, which is not kept. `usage_limit` 0: any number; `expires_in` seconds."""
        text, _ = await self._registry.create_setup_key(
            name, reusable=reusable, usage_limit=usage_limit, expires_in=expires_in
        )
        return text

    async def delete_peer(self, key: PeerKey) -> bool:
        """Remove a peer: it is told, its stream ends, the others get a map without it. False if there is none."""
        return await self._registry.delete(key)

    # -- faults on demand

    @property
    def signal_is_on(self) -> bool:
        """Whether the signal service works."""
        return self._signal.is_on

    async def stop_signal(self) -> None:
        """Switch the signal service off: its streams drop and calls are refused, management goes on."""
        self._signal.stop()

    async def start_signal(self) -> None:
        """Switch the signal service on again."""
        self._signal.start()


async def _enter_lock(clean: AsyncExitStack, directory: Path) -> None:
    """Lock the directory; a short administration by another process may hold it for a moment."""
    deadline = asyncio.get_running_loop().time() + _LOCK_TIMEOUT
    while True:
        try:
            clean.enter_context(hold(directory))
            return
        except DirectoryInUse:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(_LOCK_PAUSE)


def _advertisable(host: str) -> str:
    """The host to tell peers when none is given: the one we listen on, unless that is a wildcard."""
    try:
        wildcard = ip_address(host).is_unspecified
    except ValueError:
        wildcard = False
    if wildcard:
        raise ConfigError(f"peers cannot reach {host}; say under which name or address they reach this host")
    return host


def _checked_domain(domain: str) -> str:
    plain = domain.strip(".").lower()
    if not _DOMAIN.fullmatch(plain) or len(plain) > 180:
        raise ConfigError(f"{domain!r} is not a domain; use one like {DEFAULT_DOMAIN}")
    return plain
