"""NetBird's status messages as plain text (daemon document, 5.2). Pure."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from rxnet.cli.view import connection_type, in_order, rfc3339
from rxnet.wire import daemon_pb2 as wire

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def summary(response: wire.StatusResponse, *, version: str, profile: str, detail: bool = False) -> str:
    """The plain status; with `detail` servers are shown with their addresses and errors."""
    return "\n".join(_summary(response, version, profile, detail)) + "\n"


def _summary(response: wire.StatusResponse, version: str, profile: str, detail: bool) -> Iterator[str]:
    full, local = response.fullStatus, response.fullStatus.localPeerState
    peers = full.peers
    yield f"OS: linux/{_ARCHITECTURES.get(platform.machine(), platform.machine())}"
    yield f"Daemon version: {clean(response.daemonVersion)}"
    yield f"CLI version: {version}"
    yield f"Profile: {clean(profile)}"
    yield f"Management: {_server(full.managementState, detail)}"
    yield f"Signal: {_server(full.signalState, detail)}"
    if detail:
        yield "Relays: "
        yield from (f"  [{clean(r.URI)}] is {_relay(r)}" for r in full.relays)
        yield "Nameservers: "
        yield from (f"  {_group(g)}" for g in full.dns_servers)
    else:
        yield f"Relays: {sum(r.available for r in full.relays)}/{len(full.relays)} Available"
        working = sum(g.enabled and not g.error for g in full.dns_servers)
        yield f"Nameservers: {working}/{len(full.dns_servers)} Available"
    yield f"FQDN: {clean(local.fqdn)}"
    yield f"NetBird IP: {local.IP or 'N/A'}"
    if local.ipv6:
        yield f"NetBird IPv6: {local.ipv6}"
    kind = "Kernel" if local.kernelInterface else "Userspace"
    yield f"Interface type: {kind if local.IP else 'N/A'}"
    yield f"Wireguard port: {local.wgPort or 'N/A'}"
    permissive = " (permissive)" if local.rosenpassEnabled and local.rosenpassPermissive else ""
    yield f"Quantum resistance: {_flag(local.rosenpassEnabled)}{permissive}"
    yield f"Lazy connection: {_flag(full.lazyConnectionEnabled)}"
    yield f"SSH Server: {_ssh(full.sshServerState)}"
    yield f"Networks: {', '.join(sorted(local.networks)) or '-'}"
    if full.NumberOfForwardingRules:
        yield f"Forwarding rules: {full.NumberOfForwardingRules}"
    if response.HasField("sessionExpiresAt"):
        yield f"Session expires: {rfc3339(response.sessionExpiresAt)}"
    yield f"Peers count: {sum(p.connStatus == 'Connected' for p in peers)}/{len(peers)} Connected"


def details(response: wire.StatusResponse, reasons: Mapping[str, str], now: float) -> str:
    """The blocks of `--detail`: peers and events. `reasons` says by key why a peer is not connected."""
    lines = ["Peers detail:"]
    for peer in in_order(response.fullStatus.peers):
        lines += [*_peer(peer, reasons.get(peer.pubKey, ""), now), ""]
    events = response.fullStatus.events
    lines += ["Events:"] if events else ["Events: No events recorded"]
    for event in events:
        lines += _event(event, now)
    return "\n".join(lines) + "\n"


def _peer(peer: wire.PeerState, reason: str, now: float) -> Iterator[str]:
    up = peer.connStatus == "Connected"
    yield f" {clean(peer.fqdn)}:"
    yield f"  NetBird IP: {peer.IP}"
    if peer.ipv6:
        yield f"  NetBird IPv6: {peer.ipv6}"
    yield f"  Public key: {peer.pubKey}"
    yield f"  Status: {peer.connStatus}"
    if reason:
        yield f"  Reason: {clean(reason)}"
    yield "  -- detail --"
    yield f"  Connection type: {connection_type(peer)}"
    types = (peer.localIceCandidateType, peer.remoteIceCandidateType) if up else ("", "")
    yield f"  ICE candidate (Local/Remote): {_pair(*types)}"
    ends = (peer.localIceCandidateEndpoint, peer.remoteIceCandidateEndpoint) if up else ("", "")
    yield f"  ICE candidate endpoints (Local/Remote): {_pair(*ends)}"
    yield f"  Relay server address: {peer.relayAddress if up else ''}"
    yield f"  Last connection update: {age(peer.connStatusUpdate, now)}"
    yield f"  Last WireGuard handshake: {age(peer.lastWireguardHandshake, now) if up else '-'}"
    received, sent = (peer.bytesRx, peer.bytesTx) if up else (0, 0)
    yield f"  Transfer status (received/sent) {size(received)}/{size(sent)}"
    yield f"  Quantum resistance: {_flag(peer.rosenpassEnabled)}"
    yield f"  Networks: {', '.join(sorted(peer.networks)) or '-'}"
    yield f"  Latency: {go_duration(peer.latency.ToNanoseconds() if up else 0)}"


def _event(event: wire.SystemEvent, now: float) -> Iterator[str]:
    severity = wire.SystemEvent.Severity.Name(event.severity)
    yield f"  [{severity}] {wire.SystemEvent.Category.Name(event.category)} ({clean(event.id)})"
    yield f"    Message: {clean(event.message)}"
    yield f"    Time: {age(event.timestamp, now)}"
    if event.metadata:
        yield f"    Metadata: {', '.join(f'{clean(k)}: {clean(v)}' for k, v in sorted(event.metadata.items()))}"


def clean(text: str) -> str:
    """Text from elsewhere without what could steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _server(state: wire.ManagementState | wire.SignalState, detail: bool) -> str:
    if state.connected:
        return f"Connected to {clean(state.URL)}" if detail else "Connected"
    return "Disconnected" + (f", reason: {clean(state.error)}" if state.error else "")


def _relay(relay: wire.RelayState) -> str:
    if relay.available:
        return "Available" + (f" via {clean(relay.transport)}" if relay.transport else "")
    return "Unavailable" + (f", reason: {clean(relay.error)}" if relay.error else "")


def _group(group: wire.NSGroupState) -> str:
    state = "Available" if group.enabled and not group.error else "Unavailable"
    reason = f", reason: {clean(group.error)}" if group.error else ""
    return f"[{', '.join(group.servers)}] for [{', '.join(group.domains) or '.'}] is {state}{reason}"


def _ssh(state: wire.SSHServerState) -> str:
    count = len(state.sessions)
    if not state.enabled or not count:
        return "Enabled" if state.enabled else "Disabled"
    return f"Enabled ({count} active session{'s' if count > 1 else ''})"


def _pair(local: str, remote: str) -> str:
    return f"{clean(local) or '-'}/{clean(remote) or '-'}"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def age(stamp: Timestamp, now: float) -> str:
    """How long ago something was, in two units; `-` for never."""
    if stamp.seconds <= 0:
        return "-"
    seconds = int(now - stamp.seconds - stamp.nanos / 1e9)
    if seconds < 1:
        return "Now"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        parts = (days, "day"), (hours % 24, "hour")
    elif hours:
        parts = (hours, "hour"), (minutes % 60, "minute")
    elif minutes:
        parts = (minutes, "minute"), (seconds % 60, "second")
    else:
        parts = (0, ""), (seconds, "second")
    return ", ".join(f"{n} {unit}{'' if n == 1 else 's'}" for n, unit in parts if n) + " ago"


def size(count: int) -> str:
    """Bytes with binary units and one decimal: `200 B`, `1.5 KiB`."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in _UNITS:
        value /= 1024
        if value < 1024 or unit == _UNITS[-1]:
            break
    return f"{value:.1f} {unit}"


def go_duration(nanoseconds: int) -> str:
    """A length of time as Go prints it: `0s`, `1.175303ms`, `2m3.5s`."""
    if nanoseconds <= 0:
        return "0s"
    for unit, length in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < length * 1000:
            return _decimal(nanoseconds, length) + unit
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return text + _decimal(rest, 1_000_000_000) + "s"


def _decimal(count: int, length: int) -> str:
    whole, rest = divmod(count, length)
    digits = len(str(length)) - 1
    fraction = f"{rest:0{digits}d}".rstrip("0") if digits else ""
    return f"{whole}.{fraction}" if fraction else str(whole)
