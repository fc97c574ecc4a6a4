"""`rxnet demo`: rxnet at work in network namespaces of its own, with a cut link, drawn as marbles.

Nothing here is simulated: a real control plane, a real `rxnet up` in each namespace, real tunnels. The story is in
`story.py`, what it measured in `facts.py`, the picture in `marbles.py`, `axis.py` and `draw.py`.
"""

from __future__ import annotations

LEAST_PEERS = 2
MOST_PEERS = 20
DEFAULT_PEERS = 3


def run(peers: int = DEFAULT_PEERS, as_json: bool = False, keep: bool = False) -> int:
    """Run the demo; returns the exit code: 0 only if everything that was promised was seen.

    :param peers: hosts that talk to each other, 2 to 20; one more is registered that never answers.
    :param as_json: print one JSON document (docs/demo.md) on stdout and nothing else.
    :param keep: leave namespaces and processes running at the end, and say how to look around and how to end them.
    :raises ConfigError: if `peers` is out of range.
    :raises DeviceError: if something that the demo needs is missing; names it and the mend.
    """
    from rxnet.demo.main import run_demo

    return run_demo(peers, as_json=as_json, keep=keep)
