"""Can this host listen there, and with this certificate? Asked before anything is made on disk.

gRPC's own answer comes late and says only that it failed, not why.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from pathlib import Path

import grpc

from rxnet.errors import ConfigError

_WILDCARDS = frozenset({"::", "0.0.0.0"})


def where(host: str, port: int) -> str:
    """Host and port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def check_address(host: str, port: int) -> None:
    """See that `host` is an address of this host and that we may listen on `port`; a port in use passes.

    :raises ConfigError: names what is wrong and the mend.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigError(
            f"cannot listen on {where(host, port)}: {host!r} is not an address and no name that can be resolved; "
            "name an address of this host"
        ) from None
    failures = [error for family, _, _, _, address in found if (error := _failure(family, address)) is not None]
    # gRPC is content with one of a name's addresses, and goes without IPv6 where the kernel has none.
    if len(failures) < len(found) or (host in _WILDCARDS and failures[0].errno == errno.EAFNOSUPPORT):
        return
    mend = "run as root or choose a port from 1024" if failures[0].errno == errno.EACCES else "name one of this host"
    raise ConfigError(f"cannot listen on {where(host, port)}: {failures[0].strerror}; {mend}") from None


def _failure(family: int, address: tuple[object, ...]) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError as error:
        return None if error.errno == errno.EADDRINUSE else error
    return None


def server_credentials(certificate: Path, private_key: Path) -> grpc.ServerCredentials:
    """Read the PEM files of a TLS server. Blocks.

    :raises ConfigError: a file cannot be read, or they are not a certificate and its key.
    """
    try:
        pair = private_key.read_bytes(), certificate.read_bytes()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, private_key, password="")  # never asks the terminal
    except ssl.SSLError:  # an OSError too, without a file's name
        raise ConfigError(
            f"{certificate} and {private_key} are not a certificate and its private key (PEM, without a password)"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename} for TLS: {error.strerror}") from error
    return grpc.ssl_server_credentials([pair])
