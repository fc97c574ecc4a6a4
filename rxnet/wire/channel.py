"""gRPC channels to control-plane servers: options, TLS, proxy, and gRPC's errors in words for people."""

from __future__ import annotations

import grpc
import grpc.aio

from rxnet._version import __version__
from rxnet.errors import ConfigError
from rxnet.model import ServerAddress

MAX_RECEIVE = 16 << 20
"""Bytes of one message of management; Go clients have the same limit (management document, 1.3)."""
_MAX_DETAILS = 200

# Pieces of gRPC's texts, each with what it means and what to do. The first that fits counts.
_EXPLAINED = (
    ("certificate has expired", "its TLS certificate has expired (or this host's clock is wrong: check it)"),
    ("certificate is not yet valid", "its TLS certificate is not valid yet: check the clock of this host"),
    ("hostname verification", "its TLS certificate is for another name than that of the URL"),
    ("self signed certificate", "its TLS certificate is signed by an authority that this host does not trust"),
    ("self-signed certificate", "its TLS certificate is signed by an authority that this host does not trust"),
    ("certificate_verify_failed", "its TLS certificate is signed by an authority that this host does not trust"),
    ("certificate signature failure", "its TLS certificate is signed by an authority that this host does not trust"),
    ("wrong_version_number", "it does not speak TLS on this port: is the URL meant to begin with http:// ?"),
    ("handshake failed", "the TLS handshake failed"),
    ("proxy returned response code 407", "the HTTP proxy wants a user name and password"),
    ("proxy returned response code", "the HTTP proxy refused the connection"),
    ("http1.x server", "a web server answered that does not speak gRPC (HTTP/2) on this port"),
    ("expected settings frame", "it does not speak gRPC without TLS: is the URL meant to begin with https:// ?"),
    ("domain name not found", "its name cannot be resolved"),
    ("dns resolution failed", "its name cannot be resolved"),
    ("errors resolving", "its name cannot be resolved"),
    ("connection refused", "nothing listens there (connection refused)"),
    ("network is unreachable", "the network is unreachable"),
    ("no route to host", "there is no route to it"),
    ("keepalive watchdog timeout", "it does not answer any more (keepalive)"),
    ("ping timeout", "it does not answer any more (keepalive)"),
    ("connection reset", "the connection was reset"),
    ("socket closed", "the connection was closed"),
    ("received http2 header with status", "something in front of it answered instead"),
)


def open_channel(
    server: ServerAddress,
    *,
    root_certificates: bytes | None = None,
    proxy: str | None = None,
    ping_after: float = 30.0,
    ping_answer: float = 10.0,
    max_receive: int = MAX_RECEIVE,
) -> grpc.aio.Channel:
    """Make a channel for one attempt; nothing is dialled yet. The caller closes it.

    `root_certificates` are PEM bytes (see `rxnet.wire.trust`), None those that gRPC brings. `proxy` is
    `http://[user:password@]host:port`; None is a direct connection, whatever the environment says (see
    `environment_proxy`). A host that the variable `no_proxy` lists is reached directly even so: gRPC insists.

    While a call is open and nothing has come for `ping_after` seconds, the server is pinged; no answer within
    `ping_answer` seconds ends all calls. Servers punish pings that come more often than every 15 s (1.4).
    A message of more than `max_receive` bytes ends the call that it came on.
    """
    host = f"[{server.host}]" if ":" in server.host else server.host
    target = f"dns:///{host}:{server.port}"
    options: list[tuple[str, str | int]] = [
        # The shared pool shares back-off between attempts; the engine has a back-off of its own.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.keepalive_time_ms", round(ping_after * 1000)),
        ("grpc.keepalive_timeout_ms", round(ping_answer * 1000)),
        # A keepalive ping waits for gRPC's own bandwidth ping, for whose answer it would wait 60 s.
        ("grpc.http2.ping_timeout_ms", round(ping_answer * 1000)),
        # By default pings stop after two on a stream that only receives.
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.max_receive_message_length", max_receive),
        ("grpc.primary_user_agent", f"rxnet/{__version__}"),
        ("grpc.http_proxy", proxy) if proxy else ("grpc.enable_http_proxy", 0),
    ]
    if server.tls:
        credentials = grpc.ssl_channel_credentials(root_certificates)
        return grpc.aio.secure_channel(target, credentials, options=options)
    return grpc.aio.insecure_channel(target, options=options)


def environment_proxy(server: ServerAddress) -> str | None:
    """The proxy that HTTPS_PROXY (or ALL_PROXY) and NO_PROXY want for this server, either case; None: direct.

    :raises ConfigError: if it is not an HTTP proxy. Going directly instead would betray the user's intention.
    """
    # Known to nobody but the library's own source, and so to no stub: proxy_bypass_environment.
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or proxy_bypass_environment(f"{server.host}:{server.port}", proxies):
        return None
    scheme, separator, _ = proxy.partition("://")
    if not separator:
        return f"http://{proxy}"
    if scheme.lower() != "http":
        raise ConfigError(f"the environment names a {scheme[:10]} proxy (HTTPS_PROXY): only http:// is supported")
    return proxy


def explain(code: grpc.StatusCode, details: str | None) -> str:
    """A gRPC status as one printable line: in our words where we know what it means, then in gRPC's."""
    text = " ".join((details or "").split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    low = text.lower()
    meaning = next((words for piece, words in _EXPLAINED if piece in low), None)
    if len(text) > _MAX_DETAILS:
        text = text[: _MAX_DETAILS - 3] + "..."
    if meaning is not None:
        return f"{meaning} ({text})"
    return f"{code.name}: {text}" if text else code.name
