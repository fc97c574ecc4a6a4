"""How other processes administer a control plane: a unix socket in its directory, or the directory itself.

The socket speaks JSON lines, one operation and one answer each: `{"result": ...}` or `{"error": TEXT}`. It is 0600
in a 0700 directory: who can open it could read the data base as well. `administer` is the client: it asks the running
server, and where none runs it takes the directory's lock and works on the data base itself. So there is one writer
at any time, and a running server never has to look whether something changed behind its back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rxnet.errors import ConfigError, ControlPlaneError, DirectoryInUse
from rxnet.log import logger
from rxnet.model import ServerAddress
from rxnet.server.administration import Administration, Json
from rxnet.server.network import Announced, NetworkView
from rxnet.server.registry import Registry
from rxnet.server.store import Store, hold

_NAME = "control.sock"
_LINE_LIMIT = 64 * 1024
_ANSWER_LIMIT = 64 * 1024 * 1024
_CLIENTS = 16
_IDLE_TIMEOUT = 30.0
_TIMEOUT = 10.0
_PAUSE = 0.05


class ControlSocket:
    """The server side; the caller holds the directory's lock, so a socket file that is there is a stale one."""

    def __init__(self, directory: Path, perform: Callable[[object], Awaitable[object]]) -> None:
        self._directory = directory
        self._perform = perform
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ControlSocket:
        path = self._directory / _NAME
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(self._directory) as short:
                sock.bind(short)
                path.chmod(0o600)  # before listen: nobody can connect earlier
            self._server = await asyncio.start_unix_server(self._accept, sock=sock, limit=_LINE_LIMIT)
        except BaseException:
            sock.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._clients):
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients)
        with contextlib.suppress(FileNotFoundError):
            (self._directory / _NAME).unlink()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= _CLIENTS:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(_IDLE_TIMEOUT):
                    line = await reader.readline()
                if not line:
                    return
                # The list of a large network is megabytes of JSON: not in the loop.
                answer = await asyncio.to_thread(json.dumps, await self._answer(line))
                writer.write(answer.encode() + b"\n")
                async with asyncio.timeout(_IDLE_TIMEOUT):
                    await writer.drain()
        except (TimeoutError, OSError, ValueError):
            pass  # idle, gone, or a line without end
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Json:
        try:
            return {"result": await self._perform(json.loads(line))}
        except ConfigError as error:
            return {"error": str(error)}
        except (ValueError, RecursionError):
            return {"error": "not a line of JSON"}
        except Exception as error:
            logger.opt(exception=error).debug("an operation on the control socket failed")
            return {"error": f"the server failed: {type(error).__name__}"}


def administer(directory: Path, request: Json, *, timeout: float = _TIMEOUT) -> object:
    """Perform an operation of `Administration` on the control plane in `directory`, running or not; blocks.

    Raises `ConfigError` if the operation makes no sense or there is no control plane, `ControlPlaneError` if the
    running server does not answer in `timeout` seconds.
    """
    if not (directory / "control-plane.db").is_file():
        raise ConfigError(f"there is no control plane in {directory}; `rxnet server` makes one there")
    deadline = time.monotonic() + timeout
    while True:
        try:
            with hold(directory):
                return asyncio.run(_perform_offline(directory, request))
        except DirectoryInUse:
            pass
        try:
            return _ask(directory, request, deadline)
        except (FileNotFoundError, ConnectionRefusedError):
            # A server that is just starting or stopping, or another short administration.
            if time.monotonic() + _PAUSE > deadline:
                raise ControlPlaneError(f"the rxnet server of {directory} runs but does not answer") from None
            time.sleep(_PAUSE)


async def _perform_offline(directory: Path, request: Json) -> object:
    store = Store(directory)
    nowhere = Announced(ServerAddress("localhost", 0), None)
    registry = Registry(store, NetworkView(store.network, nowhere), most_peers=0)
    try:
        await registry.load()
        return await Administration(registry).perform(request)
    finally:
        await registry.aclose()


def _ask(directory: Path, request: Json, deadline: float) -> object:
    line = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.settimeout(max(0.1, deadline - time.monotonic()))
            with _short(directory) as short:
                sock.connect(short)
            sock.sendall(json.dumps(request).encode() + b"\n")
            while not line.endswith(b"\n"):
                sock.settimeout(max(0.1, deadline - time.monotonic()))
                chunk = sock.recv(1 << 20)
                if not chunk or len(line) > _ANSWER_LIMIT:
                    raise ControlPlaneError(f"the rxnet server of {directory} hung up; is it stopping?")
                line += chunk
        except (FileNotFoundError, ConnectionRefusedError):
            raise
        except OSError as error:  # TimeoutError is one
            reason = error.strerror or "no answer in time"
            raise ControlPlaneError(f"cannot talk to the rxnet server of {directory}: {reason}") from error
    answer = json.loads(line)
    if "error" in answer:
        raise ConfigError(answer["error"])
    return answer["result"]


@contextmanager
def _short(directory: Path) -> Iterator[str]:
    """A path of the socket that fits into its 108 bytes, however long the directory's name is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{_NAME}"
    finally:
        os.close(descriptor)
