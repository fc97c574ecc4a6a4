"""In which network namespace are we? Whoever writes down what it changed on the host notes where that was."""

from __future__ import annotations

import os


def network_namespace() -> str:
    """The network namespace of this process, such as `net:[4026531840]`; empty where /proc does not tell."""
    try:
        return os.readlink("/proc/self/ns/net")
    except OSError:
        return ""
