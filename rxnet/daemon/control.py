"""The control socket: a unix socket that only its owner may open, taken from nobody who is alive."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rxnet.errors import ConfigError, ResourceTaken
from rxnet.files import make_private, problem

if TYPE_CHECKING:
    import grpc

PROBE: Final = 0.5
"""Seconds that a probe of an existing socket may take."""
_LONGEST: Final = 107
"""Bytes of a socket's path (unix(7))."""
_GRACE: Final = 1.0
"""Seconds that running calls get when the socket closes."""


def probe(path: Path) -> bool:
    """Tell whether somebody listens on a unix socket; a full queue counts as somebody.

    :raises OSError: if that cannot be told, for want of permission for example.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(PROBE)
        try:
            caller.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (TimeoutError, BlockingIOError):
            return True
    return True


def clear_stale(path: Path) -> None:
    """Remove a socket that a killed process left; a live one and other files stay.

    :raises ResourceTaken: if a process answers there.
    :raises ConfigError: if the path is something else, or cannot be looked at or removed.
    """
    try:
        found = os.lstat(path)
        if not stat.S_ISSOCK(found.st_mode):
            raise ConfigError(f"{path} exists and is not a socket: remove it, or name another one with --daemon-addr")
        if probe(path):
            raise ResourceTaken(
                f"another rxnet answers at {path}: stop it with `rxnet down`, or name another socket with --daemon-addr"
            )
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"cannot use the socket {path}: {problem(error)}") from None


def _demand_safe(directory: Path) -> None:
    """Who can write to the directory can put a socket of his own in our place, unless it is sticky."""
    found = os.stat(directory)
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{directory} is not a directory: name another socket with --daemon-addr")
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if writable and not found.st_mode & stat.S_ISVTX:
        raise ConfigError(f"others can write to {directory}, where the control socket goes: `chmod go-w {directory}`")


@asynccontextmanager
async def serving(path: Path, handlers: Iterable[grpc.GenericRpcHandler[Any, Any]]) -> AsyncIterator[None]:
    """Serve gRPC handlers on a unix socket of mode 0600, and remove it at the end.

    gRPC makes the file with the process's umask and opens it to all; so it is bound inside a directory that only we
    can enter, and moved to its place when its mode is right.

    :raises ResourceTaken: if another process answers there.
    :raises ConfigError: if the socket cannot be made.
    """
    import grpc.aio  # here, because the command line probes a socket before it pays for this import

    try:
        make_private(path.parent)
        _demand_safe(path.parent)
        clear_stale(path)
        nursery = path.parent / f".{secrets.token_hex(3)}"
        bound = nursery / "s"
        if max(len(os.fsencode(bound)), len(os.fsencode(path))) > _LONGEST:
            raise ConfigError(f"the path of the control socket is too long: {path}; name another with --daemon-addr")
        os.mkdir(nursery, 0o700)
    except OSError as error:
        raise ConfigError(f"cannot make the control socket {path}: {problem(error)}") from None
    options = [("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)]
    server = grpc.aio.server(options=options)
    try:
        try:
            server.add_generic_rpc_handlers(tuple(handlers))
            server.add_insecure_port(f"unix:{bound}")
            os.chmod(bound, 0o600)
            mine = os.stat(bound)
            os.rename(bound, path)
        except (OSError, RuntimeError) as error:
            text = problem(error) if isinstance(error, OSError) else "gRPC cannot bind it"
            raise ConfigError(f"cannot make the control socket {path}: {text}") from None
        finally:
            shutil.rmtree(nursery, ignore_errors=True)
        await server.start()
        try:
            yield
        finally:
            _remove(path, mine)
    finally:
        await server.stop(_GRACE)


def _remove(path: Path, mine: os.stat_result) -> None:
    """Remove our socket, not one that somebody has put in its place since."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino):
            os.unlink(path)


def reason(error: OSError) -> str:
    """Why a control socket cannot be used, for the command line."""
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return "rxnet is not running"
    return problem(error)
