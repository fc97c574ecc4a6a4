"""Wait until a peer answers, then end: what a script does before it uses the tunnel.

RXNET_MANAGEMENT_URL=http://10.99.0.1:8080 python examples/wait_for_peer.py NAME [SECONDS]
"""

from __future__ import annotations

import asyncio
import sys

from example_config import from_environment

import rxnet


async def main(name: str, limit: float) -> int:
    def answers(state: rxnet.State) -> bool:
        return any(peer.connected and peer.remote.fqdn.split(".")[0] == name for peer in state.peers.values())

    async with rxnet.Client(from_environment()) as client:
        try:
            state = await client.wait_for(answers, limit=limit)
        except TimeoutError:
            print(f"{name} did not answer within {limit:g} s", file=sys.stderr)
            return 1
        except rxnet.RxnetError as error:
            print(error, file=sys.stderr)
            return 1
        found = next(peer for peer in state.peers.values() if peer.remote.fqdn.split(".")[0] == name)
        print(f"{name} answers at {found.remote.allowed_ips[0].network_address}")
    return 0


if len(sys.argv) < 2:
    sys.exit(__doc__)
sys.exit(asyncio.run(main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 30.0)))
