"""Feeds as async iterators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

from rxnet.engine.feed import Feed, Gap, Tap

T = TypeVar("T")


def entries(feed: Feed[T], length: int) -> AsyncGenerator[T | Gap]:
    """Iterate over a feed from this call on; ends when the feed closes, and leaves it when the iteration is given up.

    An entry leaves the bounded buffer only when the loop body wants the next one, so a slow body sees gaps and
    nothing piles up.
    """
    return _iterate(feed.tap(length))


async def _iterate(tap: Tap[T]) -> AsyncGenerator[T | Gap]:
    arrived = asyncio.Event()
    tap.wake = arrived.set
    try:
        while True:
            entry = tap.take()
            if entry is not None:
                yield entry
            elif tap.completed:
                return
            else:
                arrived.clear()
                await arrived.wait()
    finally:
        tap.close()
