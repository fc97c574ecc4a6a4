"""`rxnet demo`: rxnet at work in network namespaces of its own (rxnet.demo)."""

from __future__ import annotations

import os

from rxnet.cli.logs import silence_log
from rxnet.cli.prepare import SETUP_KEY_VARIABLE
from rxnet.cli.usage import Command
from rxnet.demo import DEFAULT_PEERS, LEAST_PEERS, MOST_PEERS
from rxnet.demo import run as run_demo
from rxnet.demo.main import clean


def run(command: Command) -> int:
    """Show it; see docs/demo.md."""
    os.environ.pop(SETUP_KEY_VARIABLE, None)  # not for the processes that it starts
    if command.flag("--clean"):
        return clean()
    peers = command.number("--peers", LEAST_PEERS, MOST_PEERS)
    silence_log()
    return run_demo(peers or DEFAULT_PEERS, as_json=command.flag("--json"), keep=command.flag("--keep"))
