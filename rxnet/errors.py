"""The errors that rxnet raises at the borders of its API. Inside the engine errors are events.

* RxnetError
  x ConfigError         a file, option or environment variable is wrong
    - DirectoryInUse    another process holds the directory
  x LoginError          management refused us for good
  x DeviceError         the WireGuard interface could not be made or configured
  x ControlPlaneError   management or signal cannot be reached or answers nonsense
    - ProtocolError     bytes that do not follow the protocol
  x ResourceTaken       another process holds the control socket
"""

from __future__ import annotations


class RxnetError(Exception):
    """Base of all errors of rxnet. `str(error)` is one line that names the thing and the mend."""


class ConfigError(RxnetError):
    """A file, an option or an environment variable is missing, unreadable or wrong."""


class DirectoryInUse(ConfigError):
    """Another process holds the directory; it is named, with the process if that is known."""


class LoginError(RxnetError):
    """Management refused this peer for good: wrong or spent setup key, deleted peer."""


class DeviceError(RxnetError):
    """The WireGuard interface could not be made or configured."""


class ControlPlaneError(RxnetError):
    """Management or signal cannot be reached, or ended the conversation."""


class ProtocolError(ControlPlaneError):
    """Somebody sent bytes that do not follow the protocol."""


class ResourceTaken(RxnetError):
    """Another process answers at the control socket that we would make."""
