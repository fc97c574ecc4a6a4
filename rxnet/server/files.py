"""Private directories and files: made with the right mode from the first instant, never through a symbolic link."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rxnet.errors import ConfigError


class DirectoryInUse(ConfigError):
    """Another process holds the directory."""


def private_directory(directory: Path) -> None:
    """Make sure that `directory` exists, is ours and 0700. Raises `ConfigError` with the mend.

    An empty directory of ours is made private; one that has content and is open to others is left to its owner.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigError(f"{directory} is a symbolic link; name the directory itself")
        if found.st_uid != os.geteuid():
            raise ConfigError(f"{directory} belongs to user {found.st_uid}, not to us; choose a directory of our own")
        if stat.S_IMODE(found.st_mode) & 0o077:
            if any(directory.iterdir()):
                raise ConfigError(f"{directory} is open to other users and will hold secrets; chmod 700 it")
            directory.chmod(0o700)
    except OSError as error:
        raise ConfigError(f"cannot use the directory {directory}: {error.strerror or error}") from error


def create_private_file(path: Path) -> None:
    """Make sure that `path` is a plain file of ours with mode 0600; an existing one keeps its content."""
    os.close(_open_private(path, os.O_RDWR | os.O_CREAT))


def read_private_text(path: Path, *, limit: int = 4096) -> str | None:
    """Read a small secret, or None if there is no file. Raises `ConfigError` if others can read it."""
    try:
        descriptor = _open_private(path, os.O_RDONLY, mend_mode=False)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ConfigError(f"{path} is too long to be what it should be; remove it")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text; remove it") from None


def write_private_text(path: Path, text: str) -> None:
    """Create `path` with this content and mode 0600: whole or not at all, also if we are killed; never over a file."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            os.link(beside, path)  # unlike a rename it fails where something is already
        finally:
            with suppress(OSError):
                beside.unlink()
        _sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Hold the directory for this process until the end of the block. Raises `DirectoryInUse` at once.

    The kernel drops the lock of a killed process, so there is nothing stale to clean up.
    """
    private_directory(directory)
    descriptor = _open_private(directory / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DirectoryInUse(f"{directory} is in use by another rxnet server; stop it or choose another") from None
    except BaseException:
        os.close(descriptor)
        raise
    try:
        yield
    finally:
        os.close(descriptor)


def _open_private(path: Path, flags: int, *, mend_mode: bool = True) -> int:
    try:
        # O_NONBLOCK so that a pipe put in the place of the file cannot hang us; plain files do not care.
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except FileNotFoundError:
        raise
    except OSError as error:
        link = error.errno == errno.ELOOP
        reason = "it is a symbolic link, name the file itself" if link else error.strerror or str(error)
        raise ConfigError(f"cannot open {path}: {reason}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path} is not a plain file; remove it")
        if found.st_uid != os.geteuid():
            raise ConfigError(f"{path} belongs to user {found.st_uid}, not to us; remove it")
        if stat.S_IMODE(found.st_mode) & 0o077:
            if not mend_mode:
                raise ConfigError(f"{path} holds a secret and is open to other users; chmod 600 it")
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
