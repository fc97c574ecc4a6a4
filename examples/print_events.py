"""Print every event of a client until Ctrl-C: what happened, when, and which event led to it.

RXNET_MANAGEMENT_URL=http://10.99.0.1:8080 RXNET_SETUP_KEY=... python examples/print_events.py
"""

from __future__ import annotations

import asyncio
import contextlib

from example_config import from_environment

import rxnet


async def main() -> None:
    async with rxnet.Client(from_environment()) as client:
        async for entry in client.watch_events():
            if isinstance(entry, rxnet.Gap):
                print(f"... {entry.lost} events lost: printing is too slow")
                continue
            cause = f"because of {entry.cause}" if entry.cause else "from outside"
            print(f"{entry.seq:5} {entry.at:10.3f} {cause:16} {entry.event.kind:10} {entry.event}")


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
