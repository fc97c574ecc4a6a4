"""Events as JSON documents, for `rxnet up --json` and for the Events stream. Pure."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, cast

from rxnet.daemon.subject import Moment
from rxnet.engine.inbox import Stamped
from rxnet.model import Endpoint

_TEXTS = (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    Endpoint,
)


def event_document(stamped: Stamped, moment: Moment) -> dict[str, object]:
    """An event with its stamp: `seq`, `time` (RFC 3339, UTC), `cause`, `kind`, `event`, `peer`, then its own fields.

    :param moment: any recent reading of both clocks, to turn the stamp's time into wall-clock time.
    """
    event = stamped.event
    when = datetime.fromtimestamp(moment.wall_time(stamped.at), UTC)
    head: dict[str, object] = {
        "seq": stamped.seq,
        "time": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "cause": stamped.cause,
        "kind": event.kind,
        "event": type(event).__name__,
        "peer": event.peer,
    }
    own = fields(cast(Any, event))  # every event is a dataclass, which `Event` itself cannot say
    return head | {f.name: plain(getattr(event, f.name)) for f in own if f.name not in head}


def plain(value: object) -> object:
    """A value of the vocabulary in JSON's types; addresses as people write them."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    return str(value)


def line(document: dict[str, object]) -> str:
    """One line of JSON, without its newline."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("\u2028", "\\u2028")
