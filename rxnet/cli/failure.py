"""How a command ends: exit codes, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum

from rxnet.errors import ConfigError, ControlPlaneError, DeviceError, DirectoryInUse, LoginError, ResourceTaken


class Exit(IntEnum):
    """Exit codes; the table for users is in `rxnet --help` and docs/cli.md."""

    OK = 0
    UNEXPECTED = 1
    """A defect of rxnet."""
    USAGE = 2
    """A wrong option, configuration file, key file or environment variable."""
    NOT_RUNNING = 3
    """The daemon is not running or does not answer."""
    LOGIN_REFUSED = 4
    DEVICE = 5
    """The WireGuard interface could not be made or died."""
    TAKEN = 6
    """Another process holds the socket, the directory, the interface or the address range."""
    UNREACHABLE = 7
    """The management server cannot be reached or answered nonsense."""
    UNFINISHED = 8
    """Something on the host could not be taken back."""
    KILLED = 130
    """A second signal, or Ctrl-C in a command that holds nothing."""


class Failure(Exception):
    """Ends the command with this line on stderr and this code."""

    def __init__(self, code: Exit, text: str) -> None:
        super().__init__(text)
        self.code = code


def exit_code(error: Exception) -> Exit:
    """The code for an error of the library."""
    if isinstance(error, Failure):
        return error.code
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return Exit.UNEXPECTED


_CODES = {
    DirectoryInUse: Exit.TAKEN,  # before its base
    ConfigError: Exit.USAGE,
    LoginError: Exit.LOGIN_REFUSED,
    DeviceError: Exit.DEVICE,
    ControlPlaneError: Exit.UNREACHABLE,
    ResourceTaken: Exit.TAKEN,
}
