"""Whom to trust over TLS: the system's certificates. gRPC would take a list of its own, however old, instead."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
)


def system_root_certificates() -> bytes | None:
    """Read the system's trusted certificates as PEM; None if there are none (gRPC then uses the list it brings).

    As OpenSSL does, `SSL_CERT_FILE` and `SSL_CERT_DIR` come first. Reads files: call it from a thread.
    """
    chosen = [os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
    if chosen:
        return b"\n".join(filter(None, map(_read, chosen))) or None
    paths = ssl.get_default_verify_paths()
    candidates = [paths.openssl_cafile, *_BUNDLES, paths.openssl_capath]
    return next(filter(None, map(_read, candidates)), None)


def _read(name: str) -> bytes | None:
    """A PEM file, or all PEM files of a directory."""
    path = Path(name)
    try:
        files = sorted(path.glob("*.pem")) + sorted(path.glob("*.crt")) if path.is_dir() else [path]
        found = [content for content in map(Path.read_bytes, files) if b"-----BEGIN CERTIFICATE-----" in content]
    except OSError:
        return None
    return b"\n".join(found) or None
