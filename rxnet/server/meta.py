"""What peers say about themselves (`PeerSystemMeta`): what is kept of it and what it means for maps."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError

from rxnet.server.refusal import Refusal
from rxnet.wire import management_pb2 as pb

_META_LIMIT = 64 * 1024
_VERSION_LIMIT = 64
_HOSTNAME_LIMIT = 255
_LAST_SYSTEM_FIELD = 16


@dataclass(frozen=True, slots=True)
class About:
    """What matters to maps."""

    hostname: str
    agent_version: str
    ipv6: bool
    """The peer wants and understands IPv6 in the overlay: capability 2, not disabled (management document, 3.7)."""


def about(meta: pb.PeerSystemMeta) -> About:
    """Read a peer's own description; any content is fine, long texts are cut."""
    ipv6 = pb.PeerCapabilityIPv6Overlay in meta.capabilities and not meta.flags.disableIPv6
    return About(meta.hostname[:_HOSTNAME_LIMIT], meta.netbirdVersion[:_VERSION_LIMIT], ipv6)


def about_kept(serialized: bytes) -> About:
    """Read what was kept of a description; damaged bytes read as an empty one."""
    try:
        return about(pb.PeerSystemMeta.FromString(serialized))
    except DecodeError:
        return About("", "", False)


def is_present(meta: pb.PeerSystemMeta) -> bool:
    """Meta counts as absent when every field from 1 to 16 is empty (management document, 3.4)."""
    return any(descriptor.number <= _LAST_SYSTEM_FIELD for descriptor, _ in meta.ListFields())


def kept(meta: pb.PeerSystemMeta) -> bytes:
    """What the store keeps: not the files, which answer checks that this server never asks for.

    Raises `Refusal` when that is more than 64 KiB.
    """
    copy = pb.PeerSystemMeta()
    copy.CopyFrom(meta)
    copy.ClearField("files")
    # Deterministic, so that equal content is equal bytes and costs no write.
    serialized = copy.SerializeToString(deterministic=True)
    if len(serialized) > _META_LIMIT:
        text = f"peer system meta has more than {_META_LIMIT} bytes"
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
    return serialized
