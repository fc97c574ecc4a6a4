"""Chance that replays: what is drawn follows from an event's entropy, in every process the same."""

from __future__ import annotations

from hashlib import blake2b

from rxnet.model import SessionId


def draw(seed: int, *parts: str | int) -> int:
    """Draw 64 bits from a seed for one purpose: the same in every process, unlike `hash`."""
    text = "\0".join(map(str, (seed, *parts)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def fraction(bits: int) -> float:
    """Map 64 random bits to [0, 1)."""
    return (bits >> 11) / (1 << 53)


def session_id(bits: int) -> SessionId:
    """Make a session id, five bytes as hex, of random bits."""
    return SessionId(f"{bits & 0xFFFFFFFFFF:010x}")
