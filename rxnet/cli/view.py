"""NetBird's status messages as `status` shows them: the JSON document and the plain text. Pure.

Keys, their order, labels and forms are those of NetBird's command line (daemon document, 5.2), so that programs that
read one can read the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from rxnet.wire import daemon_pb2 as wire

NEVER: Final = "0001-01-01T00:00:00Z"
_YEAR_ONE: Final = -62135596800


def document(response: wire.StatusResponse, *, version: str, profile: str) -> dict[str, Any]:
    """The JSON document, keys in NetBird's order."""
    full, local = response.fullStatus, response.fullStatus.localPeerState
    peers = in_order(full.peers)
    found: dict[str, Any] = {
        "peers": {
            "total": len(peers),
            "connected": sum(p.connStatus == "Connected" for p in peers),
            "details": [_peer(p) for p in peers] or None,
        },
        "cliVersion": version,
        "daemonVersion": response.daemonVersion,
        "daemonStatus": response.status,
        "management": _server(full.managementState),
        "signal": _server(full.signalState),
        "relays": {
            "total": len(full.relays),
            "available": sum(r.available for r in full.relays),
            "details": [_relay(r) for r in full.relays] or None,
        },
        "netbirdIp": local.IP,
        "netbirdIpv6": local.ipv6 or None,
        "publicKey": local.pubKey,
        "usesKernelInterface": local.kernelInterface,
        "wireguardPort": local.wgPort,
        "fqdn": local.fqdn,
        "quantumResistance": local.rosenpassEnabled,
        "quantumResistancePermissive": local.rosenpassPermissive,
        "networks": sorted(local.networks) or None,
        "forwardingRules": full.NumberOfForwardingRules,
        "dnsServers": [_name_servers(g) for g in full.dns_servers],
        "events": [_event(e) for e in full.events],
        "lazyConnectionEnabled": full.lazyConnectionEnabled,
        "profileName": profile,
        "sshServer": {
            "enabled": full.sshServerState.enabled,
            "sessions": [_session(s) for s in full.sshServerState.sessions],
        },
    }
    if not local.ipv6:
        del found["netbirdIpv6"]
    if response.HasField("sessionExpiresAt"):
        found["sessionExpiresAt"] = rfc3339(response.sessionExpiresAt, UTC)
    return found


def as_json(found: Mapping[str, Any]) -> str:
    """A document as one line, with the characters escaped that Go escapes."""
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def in_order(peers: Iterable[wire.PeerState]) -> list[wire.PeerState]:
    """Peers by IPv4 address; those without one come last."""
    return sorted(peers, key=lambda p: (_address_number(p.IP), p.pubKey))


def _address_number(text: str) -> int:
    try:
        return int(ip_address(text))
    except ValueError:
        return 1 << 128


def _peer(peer: wire.PeerState) -> dict[str, Any]:
    up = peer.connStatus == "Connected"
    found: dict[str, Any] = {"fqdn": peer.fqdn, "netbirdIp": peer.IP}
    if peer.ipv6:
        found["netbirdIpv6"] = peer.ipv6
    return found | {
        "publicKey": peer.pubKey,
        "status": peer.connStatus,
        "lastStatusUpdate": rfc3339(peer.connStatusUpdate),
        "connectionType": connection_type(peer),
        "iceCandidateType": {
            "local": peer.localIceCandidateType if up else "",
            "remote": peer.remoteIceCandidateType if up else "",
        },
        "iceCandidateEndpoint": {
            "local": peer.localIceCandidateEndpoint if up else "",
            "remote": peer.remoteIceCandidateEndpoint if up else "",
        },
        "relayAddress": peer.relayAddress if up else "",
        "lastWireguardHandshake": rfc3339(peer.lastWireguardHandshake) if up else NEVER,
        "transferReceived": peer.bytesRx if up else 0,
        "transferSent": peer.bytesTx if up else 0,
        "latency": peer.latency.ToNanoseconds() if up else 0,
        "quantumResistance": peer.rosenpassEnabled,
        "networks": sorted(peer.networks) or None,
    }


def connection_type(peer: wire.PeerState) -> str:
    """How a peer is connected, `-` if it is not."""
    if peer.connStatus != "Connected":
        return "-"
    return "Relayed" if peer.relayed else "P2P"


def _server(state: wire.ManagementState | wire.SignalState) -> dict[str, Any]:
    return {"url": state.URL, "connected": state.connected, "error": state.error}


def _relay(relay: wire.RelayState) -> dict[str, Any]:
    found: dict[str, Any] = {"uri": relay.URI, "available": relay.available, "error": relay.error}
    return found | ({"transport": relay.transport} if relay.transport else {})


def _name_servers(group: wire.NSGroupState) -> dict[str, Any]:
    return {
        "servers": list(group.servers) or None,
        "domains": list(group.domains) or None,
        "enabled": group.enabled,
        "error": group.error,
    }


def _event(event: wire.SystemEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "severity": wire.SystemEvent.Severity.Name(event.severity),
        "category": wire.SystemEvent.Category.Name(event.category),
        "message": event.message,
        "userMessage": event.userMessage,
        "timestamp": rfc3339(event.timestamp, UTC),
        "metadata": dict(sorted(event.metadata.items())) or None,
    }


def _session(session: wire.SSHSessionInfo) -> dict[str, Any]:
    found: dict[str, Any] = {
        "username": session.username,
        "remoteAddress": session.remoteAddress,
        "command": session.command,
    }
    if session.jwtUsername:
        found["jwtUsername"] = session.jwtUsername
    return found | ({"portForwards": list(session.portForwards)} if session.portForwards else {})


def rfc3339(stamp: Timestamp, zone: Any = None) -> str:
    """A time as Go prints it: nanoseconds without trailing zeros, the local zone unless one is given."""
    if stamp.seconds == _YEAR_ONE:
        return NEVER
    when = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=stamp.seconds)).astimezone(zone)
    offset = when.strftime("%z")
    fraction = f".{stamp.nanos:09d}".rstrip("0").rstrip(".")
    suffix = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:5]}"
    return when.strftime("%Y-%m-%dT%H:%M:%S") + fraction + suffix
