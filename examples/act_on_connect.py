"""Do something when a peer connects or disconnects, with an Observable and its operators.

RXNET_MANAGEMENT_URL=http://10.99.0.1:8080 python examples/act_on_connect.py
"""

from __future__ import annotations

import asyncio
import contextlib

from example_config import from_environment
from reactivex import operators as ops

import rxnet
from rxnet.events import PeerConnected, PeerDisconnected


def greet(entry: rxnet.Stamped | rxnet.Gap) -> None:
    match entry:
        case rxnet.Stamped(event=PeerConnected(fqdn=name, path=path)):
            print(f"{name} is here, at {path.remote}")
        case rxnet.Stamped(event=PeerDisconnected(fqdn=name, reason=reason)):
            print(f"{name} is gone: {reason}")


def about_presence(entry: rxnet.Stamped | rxnet.Gap) -> bool:
    return isinstance(entry, rxnet.Stamped) and isinstance(entry.event, PeerConnected | PeerDisconnected)


async def main() -> None:
    async with rxnet.Client(from_environment()) as client:
        client.events.pipe(ops.filter(about_presence)).subscribe(greet)
        await client.finished()  # only if management refuses us for good, or there is no interface to be had


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
