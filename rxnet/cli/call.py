"""Calls to the running rxnet: a connection within a second, or one line that says why not."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

from rxnet.cli.failure import Exit, Failure
from rxnet.cli.paths import find_paths, parse_daemon_address
from rxnet.cli.usage import Command

CONNECT_BUDGET: Final = 1.0
"""Seconds from the start of connecting to a channel that works."""
EXIT_CODE: Final = "rxnet-exit-code"
"""Trailing metadata of an answer that is an error."""
ANSWER_LIMIT: Final = 5.0
"""Seconds for an answer that needs no work on the host."""


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Daemon:
    """A connection to a running rxnet."""

    path: Path
    process: int
    """Its process id as we see it; 0 if it lives in another PID namespace."""
    channel: Any

    def call(self, method: str, request: _Message, answer: type[_T], limit: float = ANSWER_LIMIT) -> _T:
        """Call a unary method by its path.

        :raises Failure: if it does not answer in time, or answers with an error.
        """
        import grpc

        parse: Any = answer
        unary = self.channel.unary_unary(
            method, request_serializer=lambda m: m.SerializeToString(), response_deserializer=parse.FromString
        )
        try:
            found: _T = unary(request, timeout=limit)
        except grpc.RpcError as error:
            raise _failure(error, self.path, limit) from None
        return found

    def try_call(self, method: str, request: _Message, answer: type[_T]) -> _T | None:
        """As `call`; None if the method is not offered (an older rxnet, or NetBird's daemon) or fails."""
        try:
            return self.call(method, request, answer)
        except Failure:
            return None


def socket_path(command: Command, environment: Mapping[str, str] = os.environ) -> Path:
    """The control socket that a command line means."""
    given = command.text("--daemon-addr") or environment.get("RXNET_DAEMON_ADDR")
    if given:
        return parse_daemon_address(given)
    return find_paths(None, environment, os.geteuid()).socket


@contextlib.contextmanager
def connected(path: Path) -> Iterator[Daemon]:
    """Connect to the rxnet that listens at `path`.

    :raises Failure: if none does, or it does not answer within `CONNECT_BUDGET`.
    """
    deadline = time.monotonic() + CONNECT_BUDGET
    process = _knock(path)  # tells in a millisecond what gRPC needs a tenth of a second to be imported for
    import grpc

    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    channel = grpc.insecure_channel(f"unix:{quote(str(path))}", options=options)
    try:
        try:
            grpc.channel_ready_future(channel).result(timeout=max(0.3, deadline - time.monotonic()))
        except grpc.FutureTimeoutError:
            raise Failure(
                Exit.NOT_RUNNING, f"nothing answers at {path} within {CONNECT_BUDGET:g} s, although it is open"
            ) from None
        yield Daemon(path, process, channel)
    finally:
        channel.close()


def _knock(path: Path) -> int:
    """Open the socket once; returns the process id at the other end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(CONNECT_BUDGET)
        try:
            caller.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise Failure(
                Exit.NOT_RUNNING,
                f"rxnet is not running: nobody listens at {path}; start it with `rxnet up --foreground`, "
                "or name its socket with --daemon-addr",
            ) from None
        except PermissionError:
            raise Failure(
                Exit.NOT_RUNNING, f"you may not open {path}: run this as root, or as the user who runs rxnet"
            ) from None
        except OSError as error:  # a queue that is full, above all
            reason = error.strerror or "no answer"
            raise Failure(Exit.NOT_RUNNING, f"cannot connect to {path}: {reason.lower()}") from None
        peer = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        process: int = struct.unpack("3i", peer)[0]
        return process


def _failure(error: Any, path: Path, limit: float) -> Failure:
    """The failure for a gRPC error: rxnet names its exit code in the trailing metadata, the rest is transport."""
    import grpc

    code, details = error.code(), str(error.details() or "")
    told = dict(error.trailing_metadata() or ()).get(EXIT_CODE, "")
    if told in {str(int(known)) for known in Exit}:
        return Failure(Exit(int(told)), details)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failure(Exit.NOT_RUNNING, f"rxnet at {path} did not answer within {limit:g} s")
    if code is grpc.StatusCode.UNAVAILABLE:
        return Failure(Exit.NOT_RUNNING, f"rxnet at {path} ended the connection")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Failure(Exit.NOT_RUNNING, f"what listens at {path} is another version of rxnet: {details}")
    return Failure(Exit.UNEXPECTED, details or f"rxnet answered {code.name}")
