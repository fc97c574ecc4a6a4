"""Neighbours that the kernel gave up to wait for: forgotten when the link is back, so that they are asked for at once.

While a link is down, WireGuard keeps sending; the neighbour's entry turns INCOMPLETE or FAILED and is asked for once a
second. The return of the carrier does not restart that clock: the first packet would wait up to a second for its next
tick. Without the entry, the next packet asks anew (measured in prototypes/ice-on-the-wireguard-port.md, 3.2: 5 ms
instead of 90-600).
"""

from __future__ import annotations

from rxnet.errors import RxnetError
from rxnet.log import logger
from rxnet.system.netlink import Netlink
from rxnet.system.rtnetlink import NUD_UNRESOLVED


async def forget_unresolved(kernel: Netlink, index: int) -> int:
    """Delete the unresolved neighbours, both families, of the interface `index`; returns how many there were.

    Never raises: without CAP_NET_ADMIN, or when an entry is resolved or gone meanwhile, it stays as it is.
    """
    forgotten = 0
    try:
        for neighbour in await kernel.neighbours(index):
            if neighbour.state & NUD_UNRESOLVED:
                await kernel.delete_neighbour(neighbour)
                forgotten += 1
    except PermissionError:
        logger.debug("neighbours stay as they are: no CAP_NET_ADMIN")
    except (OSError, RxnetError) as error:
        logger.debug("neighbours of interface {} stay as they are: {}", index, error)
    return forgotten
