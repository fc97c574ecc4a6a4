"""The identity: the WireGuard private key, alone in a file that only its owner may read.

The file holds what `wg genkey` prints: 32 bytes as base64 and a newline. It is made on the first start and never
overwritten: a peer that loses it is a new peer to management and needs a setup key again.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from rxnet.errors import ConfigError
from rxnet.files import read_private, write_private
from rxnet.wire.box import KEY_BYTES, generate_private_key


def load_identity(path: Path) -> bytes | None:
    """Read the private key; None if there is no file yet.

    :raises ConfigError: if others can read the file, or it does not hold a key.
    """
    content = read_private(path, secret=True)
    return None if content is None else parse_private_key(content, str(path))


def load_or_make_identity(path: Path) -> tuple[bytes, bool]:
    """Read the private key, or make one on the first start; tells whether it is new.

    :raises ConfigError: as `load_identity`, or if the file cannot be written.
    """
    found = load_identity(path)
    if found is not None:
        return found, False
    made = generate_private_key()
    try:
        write_private(path, base64.b64encode(made) + b"\n", replace=False)
    except FileExistsError:  # another start was quicker: its key counts
        found = load_identity(path)
        if found is None:
            raise ConfigError(f"{path} appeared and vanished: does another program use it?") from None
        return found, False
    return made, True


def parse_private_key(content: bytes, name: str) -> bytes:
    """Decode a key file's content. The error never shows any of it.

    :raises ConfigError: if it is not one key.
    """
    mend = "restore it from a backup, or remove it to start as a new peer (which needs a setup key)"
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{name} does not hold a private key (32 bytes as base64): {mend}") from None
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{name} holds {len(key)} bytes instead of a private key of {KEY_BYTES}: {mend}")
    if not any(key):
        raise ConfigError(f"{name} holds only zeros instead of a private key: {mend}")
    return key
