"""Files that only their owner may read, written whole or not at all.

Configuration, identity, the journal of host changes and the server's data live in directories of our own (0700) as
files of our own (0600). A write goes to a temporary file in the same directory, is flushed to the disk and renamed over
the old one, so a reader and a power cut see the old content or the new one. All names are resolved from the opened
directory, so that nobody can swap it for another one in between. One process at a time holds a directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rxnet.errors import ConfigError, DirectoryInUse

LARGEST: Final = 1 << 20
"""Bytes; a configuration or key file beyond it is a mistake."""
LOCK: Final = "lock"
"""The file in a directory that is locked by who holds the directory."""


def problem(error: OSError) -> str:
    """The system's words for an error, without number and path."""
    return (error.strerror or str(error)).lower()


# -- directories -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def private_directory(path: Path, *, create: bool, secret: bool = False) -> Iterator[int]:
    """Open a directory that nobody else can write to; yields its descriptor.

    It is made with mode 0700 if `create`, parents included. A symbolic link is followed only if we or root made it.

    :param secret: nobody else may look into it either; an empty one of ours that is open to others is closed to them.
    :raises ConfigError: if it cannot be made or opened, or somebody else could change (or see) what is in it.
    :raises FileNotFoundError: if it does not exist and `create` is False.
    """
    with _opened(path, create=create) as descriptor:
        if secret:
            _close_to_others(path, descriptor)
        _demand_private(path, os.fstat(descriptor), secret=secret)
        yield descriptor


@contextlib.contextmanager
def lock_directory(
    directory: Path, whose: str, *, secret: bool = False, mend: str = "stop it, or use another directory"
) -> Iterator[None]:
    """Hold a private directory for this process until the end of the block.

    A lock dies with its process, so it tells the living from the dead and leaves nothing to clean up. The lock file
    stays; the number of the process in it serves the error alone.

    :param whose: who uses such directories, for the error: "rxnet", "rxnet server".
    :param secret: as for `private_directory`.
    :param mend: what to do about another holder, for the error.
    :raises DirectoryInUse: if it is held already; at once.
    :raises ConfigError: if the directory or the lock cannot be used.
    """
    with private_directory(directory, create=True, secret=secret) as opened:
        descriptor = _open_own(opened, directory / LOCK)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            who = f"another {whose} (process {holder})" if holder.isdigit() else f"another {whose}"
            raise DirectoryInUse(f"{directory} is in use by {who}: {mend}") from None
        except OSError as error:
            raise ConfigError(f"cannot lock {directory / LOCK}: {problem(error)}") from None
        yield
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


@contextlib.contextmanager
def _opened(path: Path, *, create: bool) -> Iterator[int]:
    """Open a directory, whoever else can write to it."""
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
        yield descriptor
    finally:
        os.close(descriptor)


def _close_to_others(path: Path, descriptor: int) -> None:
    """Make an empty directory of ours private; one that has content is left to its owner."""
    found = os.fstat(descriptor)
    try:
        if found.st_uid == os.geteuid() and found.st_mode & 0o077 and not os.listdir(descriptor):
            os.fchmod(descriptor, 0o700)
    except OSError as error:
        raise ConfigError(f"cannot use the directory {path}: {problem(error)}") from None


def _demand_private(path: Path, found: os.stat_result, *, secret: bool) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"the directory {path} belongs to user {found.st_uid}, who could replace what is in it: "
            f"change that with `chown {os.geteuid()} {path}`, or name another directory"
        )
    mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
    if found.st_mode & 0o022:
        raise ConfigError(f"others can write to the directory {path} ({mode}): change that with `chmod go-w {path}`")
    if secret and found.st_mode & 0o077:
        raise ConfigError(
            f"others can look into the directory {path} ({mode}), which holds secrets: "
            f"change that with `chmod 700 {path}`"
        )


# -- files -----------------------------------------------------------------------------------------------------------


def write_private(path: Path, content: bytes, *, replace: bool = True, anywhere: bool = False) -> None:
    """Write a file with mode 0600 atomically, in a directory made with mode 0700 if need be.

    With `replace` False an existing file stays as it is.

    :param anywhere: in any directory, such as /tmp; else in one that nobody else can write to.
    :raises FileExistsError: if `replace` is False and the file exists.
    :raises ConfigError: if it cannot be written.
    """
    directories = _opened if anywhere else private_directory
    with directories(path.parent, create=True) as directory:
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
            raise _unusable("write", path, error) from None


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


def create_private_file(path: Path) -> None:
    """Make sure that there is a file of ours that only we may read and write; an existing one keeps its content.

    :raises ConfigError: if it cannot be made, or is something else.
    """
    os.close(open_private(path))


def open_private(path: Path, flags: int = 0) -> int:
    """Open a file of ours for reading and writing, made if need be; a mode that lets others in is corrected.

    :param flags: of `os.open`, added to our own.
    :raises ConfigError: as `create_private_file`.
    """
    with private_directory(path.parent, create=True) as directory:
        return _open_own(directory, path, flags)


def _open_own(directory: int, path: Path, flags: int = 0) -> int:
    # O_NONBLOCK so that a pipe put in the place of the file cannot hang us; plain files do not care.
    ours = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path.name, flags | ours, 0o600, dir_fd=directory)
    except OSError as error:
        raise _unusable("open", path, error) from None
    try:
        found = os.fstat(descriptor)
        _demand_own(path, found)
        if found.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    except OSError as error:
        os.close(descriptor)
        raise _unusable("open", path, error) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_private(path: Path, *, secret: bool, anywhere: bool = False) -> bytes | None:
    """Read a file of ours; None if it, or its directory, does not exist.

    :param secret: refuse a symbolic link, another owner than us or root, and a mode that lets others read.
    :param anywhere: in any directory, such as /tmp; else in one that nobody else can write to.
    :raises ConfigError: if it cannot be read or others could have changed (or, if `secret`, read) it.
    """
    directories = _opened if anywhere else private_directory
    try:
        with directories(path.parent, create=False) as directory:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if secret else 0)
            descriptor = os.open(path.name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable("read", path, error) from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        _demand_own(path, found)
        _demand_mode(path, found, secret=secret)
        try:
            content = file.read(LARGEST + 1)
        except OSError as error:
            raise _unusable("read", path, error) from None
    if len(content) > LARGEST:
        raise ConfigError(f"{path} is larger than {LARGEST} bytes: this is not a file of rxnet")
    return content


def _demand_own(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path} is not a regular file")
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{path} belongs to user {found.st_uid}: change that with `chown {os.geteuid()} {path}`")


def _demand_mode(path: Path, found: os.stat_result, *, secret: bool) -> None:
    if found.st_mode & (0o077 if secret else 0o022):
        verb = "read" if secret else "change"
        raise ConfigError(
            f"others can {verb} {path} (mode {stat.S_IMODE(found.st_mode):04o}): change that with `chmod 600 {path}`"
        )


def _unusable(verb: str, path: Path, error: OSError) -> ConfigError:
    if error.errno == errno.ELOOP:
        return ConfigError(f"{path} is a symbolic link: put the file itself there")
    return ConfigError(f"cannot {verb} {path}: {problem(error)}")
