"""Wait until a peer answers, then end: what a script does before it uses the tunnel.

A peer answers when there is a path to it and WireGuard's handshake has come back over that path.

RXNET_MANAGEMENT_URL=http://10.99.0.1:8080 python examples/wait_for_peer.py NAME [SECONDS]
"""

from __future__ import annotations

import asyncio
import sys

from example_config import from_environment

import rxnet
from rxnet.model import RemotePeer


def connected(state: rxnet.State, name: str) -> RemotePeer | None:
    peers = (peer.remote for peer in state.peers.values() if peer.connected)
    return next((peer for peer in peers if peer.fqdn.split(".")[0] == name), None)


async def answering(client: rxnet.Client, name: str) -> RemotePeer:
    while True:
        state = await client.wait_for(lambda state: connected(state, name) is not None)
        peer = connected(state, name)
        stats = (await client.statistics()).get(peer.key) if peer is not None else None
        if peer is not None and stats is not None and stats.last_handshake is not None:
            return peer
        await asyncio.sleep(0.1)  # the kernel and wireguard-go tell nobody of a handshake


async def main(name: str, limit: float) -> int:
    async with rxnet.Client(from_environment()) as client:
        try:
            peer = await asyncio.wait_for(answering(client, name), limit)
        except TimeoutError:
            print(f"{name} did not answer within {limit:g} s", file=sys.stderr)
            return 1
        except rxnet.RxnetError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{name} answers at {peer.allowed_ips[0].network_address}")
    return 0


if len(sys.argv) < 2:
    sys.exit(__doc__)
sys.exit(asyncio.run(main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 30.0)))
