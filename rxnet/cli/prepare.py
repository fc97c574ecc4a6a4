"""From a command line, the environment and the files to a `ClientConfig`: what `up` and `deregister` start with."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rxnet.cli.paths import Paths, find_paths
from rxnet.cli.usage import Command, usage
from rxnet.config import (
    DEFAULT_PORT,
    ClientConfig,
    Settings,
    check_hostname,
    check_interface,
    check_setup_key,
    load_settings,
    parse_management_url,
    store_settings,
)
from rxnet.errors import ConfigError
from rxnet.files import LOCK, lock_directory, problem
from rxnet.identity import load_identity, load_or_make_identity
from rxnet.wire.box import public_key

SETUP_KEY_VARIABLE: Final = "RXNET_SETUP_KEY"
_LARGEST_KEY_FILE: Final = 4096


@dataclass(frozen=True, slots=True)
class SetupKey:
    """A setup key and what the user should know about how it came."""

    text: str | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()


def take_setup_key(command: Command, environment: MutableMapping[str, str]) -> SetupKey:
    """The setup key from file, option or environment; it is gone from the environment afterwards.

    :raises Failure: if it is given twice.
    :raises ConfigError: if it is none, or the file cannot be read.
    """
    from_environment = environment.pop(SETUP_KEY_VARIABLE, None)
    inline, file = command.text("--setup-key"), command.text("--setup-key-file")
    if inline is not None and file is not None:
        raise usage("give either --setup-key-file or --setup-key")
    if file is not None:
        return read_setup_key(Path(file))
    if inline is not None:
        warning = "other users can see the setup key in the process list: use --setup-key-file or RXNET_SETUP_KEY"
        return SetupKey(check_setup_key(inline.strip(), "--setup-key"), (warning,))
    if from_environment is not None and from_environment.strip():
        return SetupKey(check_setup_key(from_environment.strip(), SETUP_KEY_VARIABLE))
    return SetupKey()


def read_setup_key(path: Path) -> SetupKey:
    """Read a setup key from a file or pipe; blank lines and blanks around it do not matter.

    :raises ConfigError: if it cannot be read or holds something else.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LARGEST_KEY_FILE + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the setup key file {path}: {problem(error)}") from None
    text = content.decode("utf-8-sig", "replace").strip().strip("\0")
    if not text:
        raise ConfigError(f"the setup key file {path} is empty")
    warnings: tuple[str, ...] = ()
    if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        warnings = (f"other users can read the setup key file {path}: change that with `chmod 600 {path}`",)
    return SetupKey(check_setup_key(text, f"what {path} holds"), warnings)


def given_settings(command: Command) -> Settings:
    """What the options of `up` say.

    :raises ConfigError: if a value cannot work, naming the option.
    """
    url, interface = command.text("--management-url"), command.text("--interface-name")
    hostname = command.text("--hostname")
    if url is not None:
        parse_management_url(url, "--management-url")
    return Settings(
        management_url=url.strip() if url is not None else None,
        interface_name=check_interface(interface, "--interface-name") if interface is not None else None,
        wireguard_port=command.number("--wireguard-port", 1, 65535),
        hostname=check_hostname(hostname, "--hostname") if hostname is not None else None,
        disable_dns=True if command.flag("--disable-dns") else None,
        disable_ipv6=True if command.flag("--disable-ipv6") else None,
    )


def paths_of(command: Command, environment: Mapping[str, str]) -> Paths:
    """The files a command line means."""
    given = command.text("--config-dir")
    return find_paths(given if given is not None else environment.get("RXNET_CONFIG_DIR") or None, environment,
                      os.geteuid())  # fmt: skip


def demand_free(paths: Paths) -> None:
    """Check that no other process uses the installation: one at a time has its identity, interface and journal.

    The lock is the client's (rxnet.system.journal), which takes it late; this is to know before anything is written.

    :raises DirectoryInUse: if another process holds it.
    :raises ConfigError: if the directory or the lock cannot be used.
    """
    if os.path.lexists(paths.state / LOCK):  # else nobody ever held it, and looking makes nothing
        with lock_directory(paths.state, "rxnet", mend="stop it with `rxnet down`, or use another --config-dir"):
            pass


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that `up` needs."""

    config: ClientConfig
    warnings: tuple[str, ...] = ()
    new_identity: str = ""
    """Our public key if it was made just now."""


def prepare(command: Command, paths: Paths, key: SetupKey, environment: Mapping[str, str]) -> Prepared:
    """Merge options over the stored settings, store the result, and load or make the identity.

    :raises ConfigError: if something is wrong or missing; nothing is written then.
    """
    stored = load_settings(paths.config)
    settings = given_settings(command).over(stored)
    if settings.management_url is None:
        raise ConfigError("no management server is known: name it once with --management-url https://HOST[:PORT]")
    private_key = load_identity(paths.identity)
    new = private_key is None
    # Made before anything is written, so that a wrong value leaves no trace.
    config = client_config(settings, private_key or bytes(32), paths, key, environment)
    warnings = list(key.warnings)
    try:
        store_settings(paths.config, settings)
    except ConfigError as error:  # a read-only /etc must not keep a configured host from connecting
        warnings.append(f"{error}; the options hold for this run only")
    if new:
        private_key, new = load_or_make_identity(paths.identity)
        config = client_config(settings, private_key, paths, key, environment)
    return Prepared(config, tuple(warnings), public_key(config.private_key) if new else "")


def client_config(
    settings: Settings, private_key: bytes, paths: Paths, key: SetupKey, environment: Mapping[str, str]
) -> ClientConfig:
    """The client's configuration; `settings` has to name a management server."""
    management = parse_management_url(settings.management_url or "")
    certificates = settings.root_certificates or environment.get("SSL_CERT_FILE") or None
    if certificates is not None and management.tls and not os.access(certificates, os.R_OK):
        raise ConfigError(f"cannot read the root certificates {certificates}: correct root_certificates")
    given: dict[str, str] = {"hostname": settings.hostname} if settings.hostname else {}
    return ClientConfig(
        management=management,
        private_key=private_key,
        setup_key=key.text,
        interface=settings.interface_name,
        wireguard_port=settings.wireguard_port or DEFAULT_PORT,
        state_directory=paths.state,
        disable_dns=bool(settings.disable_dns),
        disable_ipv6=bool(settings.disable_ipv6),
        root_certificates=Path(certificates) if certificates else None,
        proxy=settings.proxy,
        wireguard_program=settings.wireguard_program or environment.get("WIREGUARD_GO") or None,
        **given,
    )
