"""rxnet: a NetBird-compatible mesh network client whose engine is a reactive stream.

::

    async with rxnet.Client(config) as client:
        async for entry in client.watch_events(rxnet.events.PeerConnected):
            print(entry)

The names below are loaded when they are first used: the command line asks for a version without paying for gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rxnet._version import __version__

if TYPE_CHECKING:
    from rxnet import events, model
    from rxnet.client import Client
    from rxnet.config import ClientConfig
    from rxnet.engine.feed import Gap
    from rxnet.engine.inbox import Stamped
    from rxnet.engine.state import State
    from rxnet.errors import (
        ConfigError,
        ControlPlaneError,
        DeviceError,
        DirectoryInUse,
        LoginError,
        ProtocolError,
        RxnetError,
    )

__all__ = [
    "Client",
    "ClientConfig",
    "ConfigError",
    "ControlPlaneError",
    "DeviceError",
    "DirectoryInUse",
    "Gap",
    "LoginError",
    "ProtocolError",
    "RxnetError",
    "Stamped",
    "State",
    "__version__",
    "events",
    "model",
]

_HOMES = {
    "Client": "rxnet.client",
    "ClientConfig": "rxnet.config",
    "Gap": "rxnet.engine.feed",
    "Stamped": "rxnet.engine.inbox",
    "State": "rxnet.engine.state",
}


def __getattr__(name: str) -> object:
    if name in ("events", "model"):
        return import_module(f"rxnet.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'rxnet' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES.get(name, "rxnet.errors")), name)
    globals()[name] = value
    return value
