"""Python's cyclic garbage collector, set for a daemon. A program's business: the library leaves it alone."""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (20_000, 50, 100)


def calm_collector() -> None:
    """Keep full collections rare and small.

    With a network of 10,000 peers some 300,000 objects live as long as their peers; the default thresholds walk them
    all again and again while a map is read, which blocks the loop for 150 ms. What was imported never dies: freezing
    takes it out of every later collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
