"""Configuration: what an embedder gives to `Client`, and the TOML file from which the command line makes it.

The file is flat, `schema = 1` and one line a key; every key is optional. Secrets are not in it: the private key has a
file of its own (identity.py), and a setup key is never stored.
"""

from __future__ import annotations

import json
import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from rxnet.errors import ConfigError
from rxnet.files import read_private, write_private
from rxnet.model import ServerAddress

SCHEMA: Final = 1
DEFAULT_INTERFACE: Final = "wt0"
DEFAULT_PORT: Final = 51820

_HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """All that a client needs to know. Checked when made; neither key shows in its `repr`.

    :raises ConfigError: if a value cannot work, naming the field and the mend.
    """

    management: ServerAddress
    private_key: bytes = field(repr=False)
    """32 bytes, see identity.py."""
    state_directory: Path
    """Where the journal of host changes is kept; made (0700) if missing."""
    setup_key: str | None = field(default=None, repr=False)
    """Registers an unknown peer; a known one does not need it."""
    interface: str | None = None
    """A name that must be had; None: `wt0` if it is free, else another."""
    wireguard_port: int = DEFAULT_PORT
    """UDP. If it is taken, another one is used."""
    hostname: str = field(default_factory=socket.gethostname)
    """What management shall call us."""
    disable_dns: bool = False
    disable_ipv6: bool = False
    """No IPv6 address in the overlay."""
    root_certificates: Path | None = None
    """PEM file to trust instead of the system's."""
    proxy: str | None = field(default=None, repr=False)
    """HTTP proxy for the control plane, `http://[user:password@]host:port`."""
    wireguard_program: str | None = None
    """Userspace WireGuard, a path or a name in PATH; None: `wireguard-go`."""

    def __post_init__(self) -> None:
        if len(self.private_key) != 32:
            raise ConfigError(f"private_key has {len(self.private_key)} bytes instead of 32")
        if self.setup_key is not None:
            check_setup_key(self.setup_key, "setup_key")
        if self.interface is not None:
            check_interface(self.interface, "interface")
        check_port(self.wireguard_port, "wireguard_port")
        check_hostname(self.hostname, "hostname")
        if self.proxy is not None:
            check_proxy(self.proxy, "proxy")


# -- single values --------------------------------------------------------------------------------------------------


def parse_management_url(text: str, name: str = "management_url") -> ServerAddress:
    """Parse `https://host[:port]` or `http://host[:port]`; the port defaults to the scheme's.

    :raises ConfigError: if it is anything else. A password in it is not repeated.
    """
    form = "write https://HOST or http://HOST:PORT"
    try:
        url = urlsplit(text.strip())
        port = url.port
    except ValueError as error:
        raise ConfigError(f"{name} is not an address ({error}): {form}") from None
    if "@" in url.netloc:
        raise ConfigError(f"{name} contains user data, which management does not take: {form}")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError(f"{name} {text!r} is not an address of a management server: {form}")
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ConfigError(f"{name} {text!r} has a path: {form}")
    host = url.hostname
    if ":" not in host and not _HOST_NAME.fullmatch(host):
        raise ConfigError(f"{name} {text!r} has no valid host name: {form}")
    if port == 0:
        raise ConfigError(f"{name} {text!r} has port 0: {form}")
    tls = url.scheme == "https"
    return ServerAddress(host, port or (443 if tls else 80), tls)


def check_setup_key(text: str, name: str) -> str:
    """Return a setup key if it is a UUID in its usual form, as management demands (management document, 3.2).

    :raises ConfigError: if not; the text is not repeated.
    """
    if not _UUID.fullmatch(text):
        raise ConfigError(f"{name} is not a setup key: it has the form of a UUID, xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")
    return text


def check_interface(text: str, name: str) -> str:
    """Return the name if Linux takes it for an interface (15 bytes, no blank or slash).

    :raises ConfigError: if not.
    """
    bad = not text or len(text.encode()) > 15 or text in (".", "..", "all", "default", "lo")
    if bad or any(c.isspace() or c in "/:%" or not c.isprintable() for c in text):
        raise ConfigError(f"{name} {text!r} cannot name an interface: use up to 15 letters and digits, such as wt0")
    return text


def check_port(number: int, name: str) -> int:
    """Return the number if it is a port.

    :raises ConfigError: if not.
    """
    if not 1 <= number <= 65535:
        raise ConfigError(f"{name} {number} is not a port: use 1 to 65535 (the usual one is {DEFAULT_PORT})")
    return number


def check_hostname(text: str, name: str) -> str:
    """Return the name if management can show it: printable, up to 253 characters.

    :raises ConfigError: if not.
    """
    if not text or len(text) > 253 or not text.isprintable() or text != text.strip():
        raise ConfigError(f"{name} {text!r} is not a host name: use up to 253 printable characters")
    return text


def check_proxy(text: str, name: str) -> str:
    """Return the proxy's URL if it names one; its password is not repeated.

    :raises ConfigError: if not.
    """
    try:
        url = urlsplit(text)
        good = url.scheme == "http" and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{name} is not the address of an HTTP proxy: write http://HOST:PORT")
    return text


# -- the file -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the configuration file says; None: it says nothing about it."""

    management_url: str | None = None
    interface_name: str | None = None
    wireguard_port: int | None = None
    hostname: str | None = None
    disable_dns: bool | None = None
    disable_ipv6: bool | None = None
    root_certificates: str | None = None
    proxy: str | None = field(default=None, repr=False)
    wireguard_program: str | None = None

    def over(self, base: Settings) -> Settings:
        """These settings where they say something, `base` elsewhere."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(base, **given)


_TYPES: Final[dict[str, type]] = {
    "management_url": str,
    "interface_name": str,
    "wireguard_port": int,
    "hostname": str,
    "disable_dns": bool,
    "disable_ipv6": bool,
    "root_certificates": str,
    "proxy": str,
    "wireguard_program": str,
}
_CHECKS: Final[dict[str, Callable[[str, str], object]]] = {
    "management_url": parse_management_url,
    "interface_name": check_interface,
    "hostname": check_hostname,
    "proxy": check_proxy,
}
_TYPE_NAMES: Final = {str: 'text in quotes ("...")', int: "a number", bool: "true or false"}


def load_settings(path: Path) -> Settings:
    """Read the configuration file; a missing one says nothing.

    :raises ConfigError: naming the file, the line or key, and the mend.
    """
    content = read_private(path, secret=False)
    return Settings() if content is None else parse_settings(content, str(path))


def parse_settings(content: bytes, name: str) -> Settings:
    """Parse a configuration file's content; `name` is used in errors.

    :raises ConfigError: as `load_settings`.
    """
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}, byte {error.start}: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {str(error)[:1].lower()}{str(error)[1:]}") from None
    except RecursionError:
        raise ConfigError(f"{name}: not valid TOML: nested too deeply") from None
    schema = document.pop("schema", None)
    if schema is None:
        raise ConfigError(f"{name}: the key schema is missing: write schema = {SCHEMA} on its first line")
    if type(schema) is not int or schema < 1:
        raise ConfigError(f"{name}: schema must be a number: write schema = {SCHEMA}")
    if schema > SCHEMA:
        raise ConfigError(
            f"{name}: schema {schema} is of a newer rxnet; this one reads schema {SCHEMA}: upgrade rxnet, or use "
            "another --config-dir"
        )
    for key, value in document.items():
        _check_setting(name, content, key, value)
    return Settings(**document)


def _check_setting(file: str, content: bytes, key: str, value: object) -> None:
    place = f"{file}{_line(content, key)}"
    wanted = _TYPES.get(key)
    if wanted is None:
        known = ", ".join(_TYPES)
        raise ConfigError(f"{place}: unknown key {key}: remove it, or correct it to one of {known}")
    if type(value) is not wanted:
        raise ConfigError(f"{place}: {key} must be {_TYPE_NAMES[wanted]}")
    if isinstance(value, str):
        check = _CHECKS.get(key)
        if check is not None:
            check(value, f"{place}: {key}")
        elif not value:
            raise ConfigError(f"{place}: {key} is empty: remove the line")
    elif key == "wireguard_port" and isinstance(value, int):
        check_port(value, f"{place}: {key}")


def _line(content: bytes, key: str) -> str:
    """Where a key stands, as `, line 7`; empty if it is not found (a quoted or dotted key)."""
    pattern = re.compile(rb"^\s*\[?\s*" + re.escape(key.encode()) + rb"\b")
    for number, line in enumerate(content.splitlines(), 1):
        if pattern.match(line):
            return f", line {number}"
    return ""


def store_settings(path: Path, settings: Settings) -> bool:
    """Write the settings if they differ from what the file says; comments and order stay. Tells whether it wrote.

    :raises ConfigError: if the present file is wrong (it is left alone), or writing fails.
    """
    content = read_private(path, secret=False)
    if content is not None and parse_settings(content, str(path)) == settings:
        return False
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    written = _edited(content.decode(), values) if content is not None else None
    if written is None or parse_settings(written.encode(), str(path)) != settings:
        written = _fresh(values)
    write_private(path, written.encode())
    return True


def _fresh(values: Mapping[str, object]) -> str:
    lines = ["# Configuration of rxnet; `rxnet up` stores its options here. See docs/cli.md.", f"schema = {SCHEMA}"]
    lines += [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def _edited(text: str, values: Mapping[str, object]) -> str | None:
    """The text with single lines replaced, added and removed; None if what results is not TOML any more."""
    lines = text.splitlines()
    for key, value in values.items():
        wanted = None if value is None else f"{key} = {_toml(value)}"
        at = next((i for i, line in enumerate(lines) if re.match(rf"\s*{key}\s*=", line)), None)
        if at is None:
            lines += [wanted] if wanted is not None else []
        elif wanted is None:
            del lines[at]
        elif tomllib.loads(lines[at]).get(key) != value if _is_toml(lines[at]) else True:
            lines[at] = wanted
    edited = "\n".join(lines) + "\n"
    return edited if _is_toml(edited) else None


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _toml(value: object) -> str:
    """A TOML value: JSON's texts, numbers and booleans are TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
