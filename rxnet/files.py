"""Files that only their owner may read, written whole or not at all.

Configuration, identity and the journal of host changes live in directories of our own (0700) as files of our own
(0600). A write goes to a temporary file in the same directory, is flushed to the disk and renamed over the old one, so
a reader and a power cut see the old content or the new one. All names are resolved from the opened directory, so that
nobody can swap it for another one in between.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from rxnet.errors import ConfigError

LARGEST = 1 << 20
"""Bytes; a configuration or key file beyond it is a mistake."""


def problem(error: OSError) -> str:
    """The system's words for an error, without number and path."""
    return (error.strerror or str(error)).lower()


@contextlib.contextmanager
def private_directory(path: Path, *, create: bool) -> Iterator[int]:
    """Open a directory that nobody else can write to; yields its descriptor.

    It is made with mode 0700 if `create`, parents included. A symbolic link is followed only if we or root made it.

    :raises ConfigError: if it cannot be made or opened, or somebody else could change what is in it.
    :raises FileNotFoundError: if it does not exist and `create` is False.
    """
    try:
        if create:
            make_private(path)
        link = os.lstat(path)
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in (os.geteuid(), 0):
            raise ConfigError(f"{path} is a symbolic link of user {link.st_uid}: remove it, or name another directory")
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        if create:
            raise ConfigError(f"cannot make the directory {path}: a part of the path is missing") from None
        raise
    except OSError as error:
        raise ConfigError(f"cannot use the directory {path}: {problem(error)}") from None
    try:
        _demand_private(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def make_private(path: Path) -> None:
    """Make a directory and its missing parents, each 0700; what exists is left alone.

    :raises OSError: as `os.mkdir` does.
    """
    missing = []
    at = path
    while not os.path.lexists(at):
        missing.append(at)
        at = at.parent
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)


def _demand_private(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"the directory {path} belongs to user {found.st_uid}, who could replace what is in it: "
            f"change that with `chown {os.geteuid()} {path}`, or name another directory"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"others can write to the directory {path} (mode {stat.S_IMODE(found.st_mode):04o}): "
            f"change that with `chmod go-w {path}`"
        )


def write_private(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file with mode 0600 atomically, in a directory made with mode 0700 if need be.

    With `replace` False an existing file stays as it is.

    :raises FileExistsError: if `replace` is False and the file exists.
    :raises ConfigError: if it cannot be written.
    """
    with private_directory(path.parent, create=True) as directory:
        temporary = f".{path.name}.{secrets.token_hex(8)}"
        try:
            _write_new(directory, temporary, content)
            try:
                if replace:
                    os.rename(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
                else:  # rename would overwrite; link refuses
                    os.link(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
                os.fsync(directory)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=directory)
        except FileExistsError:
            raise
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {problem(error)}") from None


def _write_new(directory: int, name: str, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(descriptor)


def read_private(path: Path, *, secret: bool) -> bytes | None:
    """Read a file of ours; None if it, or its directory, does not exist.

    :param secret: refuse a symbolic link, another owner than us or root, and a mode that lets others read.
    :raises ConfigError: if it cannot be read or others could have changed (or, if `secret`, read) it.
    """
    try:
        with private_directory(path.parent, create=False) as directory:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if secret else 0)
            descriptor = os.open(path.name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if secret and path.is_symlink():
            raise ConfigError(f"{path} is a symbolic link: put the file itself there") from None
        raise ConfigError(f"cannot read {path}: {problem(error)}") from None
    with os.fdopen(descriptor, "rb") as file:
        _demand_own(path, os.fstat(descriptor), secret=secret)
        try:
            content = file.read(LARGEST + 1)
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {problem(error)}") from None
    if len(content) > LARGEST:
        raise ConfigError(f"{path} is larger than {LARGEST} bytes: this is not a file of rxnet")
    return content


def _demand_own(path: Path, found: os.stat_result, *, secret: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path} is not a regular file")
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{path} belongs to user {found.st_uid}: change that with `chown {os.geteuid()} {path}`")
    forbidden = 0o077 if secret else 0o022
    if found.st_mode & forbidden:
        verb = "read" if secret else "change"
        raise ConfigError(
            f"others can {verb} {path} (mode {stat.S_IMODE(found.st_mode):04o}): change that with `chmod 600 {path}`"
        )
