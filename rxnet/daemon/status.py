"""State to NetBird's status messages: pure functions, so that NetBird's own command line can read us.

Facts about the forms (bare or CIDR addresses, year 1 for "never", both server messages always present) are in the
daemon document, 4 and 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from rxnet.daemon.subject import Moment, PeerStatistics
from rxnet.engine.state import FINAL, Connection, ConnectionStatus, DeviceStatus, Peer, State
from rxnet.model import PeerKey, ServerAddress
from rxnet.wire import daemon_pb2 as wire

YEAR_ONE: Final = -62135596800
"""Seconds since 1970 of Go's zero time, which stands for "never"."""

IDLE, CONNECTING, CONNECTED = "Idle", "Connecting", "Connected"
NEEDS_LOGIN, LOGIN_FAILED = "NeedsLogin", "LoginFailed"


def client_status(state: State) -> str:
    """The one word for the whole client (daemon document, 3)."""
    if state.login_refused:
        return NEEDS_LOGIN
    if not state.wanted:
        return IDLE
    if state.management.status is ConnectionStatus.ENDED:
        return LOGIN_FAILED
    ready = (
        state.local is not None
        and state.device.status is DeviceStatus.OPEN
        and state.management.status is ConnectionStatus.CONNECTED
        and state.signal.status is ConnectionStatus.CONNECTED
    )
    return CONNECTED if ready else CONNECTING


def peer_status(state: State, peer: Peer) -> str:
    """The one word for a peer. Idle: nothing goes on for it, because nothing may or because we wait for its move."""
    if peer.connected:
        return CONNECTED
    if not state.wanted or state.management.status in FINAL or peer.remote.key in state.silent:
        return IDLE
    return CONNECTING


def peer_reason(state: State, peer: Peer) -> str:
    """Why a peer is not connected: what holds all of them up comes first. Empty if it is connected."""
    if peer.connected:
        return ""
    if not state.gate.open and state.gate.reason:
        return state.gate.reason
    return peer.reason


def status_response(
    state: State,
    statistics: Mapping[PeerKey, PeerStatistics],
    moment: Moment,
    *,
    management: ServerAddress,
    version: str,
    full: bool = True,
    relays: Iterable[wire.RelayState] = (),
    events: Iterable[wire.SystemEvent] = (),
) -> wire.StatusResponse:
    """The answer to Status, whole at once."""
    response = outline(state, management=management, version=version, full=full, relays=relays, events=events)
    if full:
        response.fullStatus.peers.extend(peer_states(state, statistics, moment))
    return response


def outline(
    state: State,
    *,
    management: ServerAddress,
    version: str,
    full: bool,
    relays: Iterable[wire.RelayState] = (),
    events: Iterable[wire.SystemEvent] = (),
) -> wire.StatusResponse:
    """The answer to Status without the peers, which may be many."""
    response = wire.StatusResponse(status=client_status(state), daemonVersion=version)
    if not full:
        return response
    signal = state.signal.server
    response.fullStatus.CopyFrom(
        wire.FullStatus(
            managementState=wire.ManagementState(
                URL=str(management), connected=_is_connected(state.management), error=_error(state.management)
            ),
            signalState=wire.SignalState(
                URL=str(signal) if signal else "", connected=_is_connected(state.signal), error=_error(state.signal)
            ),
            localPeerState=local_peer(state),
            relays=relays,
            events=events,
            sshServerState=wire.SSHServerState(enabled=False),
        )
    )
    return response


def local_peer(state: State) -> wire.LocalPeerState:
    """Ourselves; empty without an interface, as after Down."""
    local, device = state.local, state.device
    if local is None or device.status is not DeviceStatus.OPEN:
        return wire.LocalPeerState()
    return wire.LocalPeerState(
        IP=str(local.address),
        ipv6=str(local.address_v6) if local.address_v6 else "",
        pubKey=state.own_key,
        kernelInterface=device.kernel,
        fqdn=local.fqdn,
        wgPort=device.port,
    )


def peer_states(state: State, statistics: Mapping[PeerKey, PeerStatistics], moment: Moment) -> Iterator[wire.PeerState]:
    """The peers in key order, one by one."""
    for key in sorted(state.peers):
        yield peer_state(state, state.peers[key], statistics.get(key), moment)


def peer_state(state: State, peer: Peer, counters: PeerStatistics | None, moment: Moment) -> wire.PeerState:
    """One peer."""
    addresses = peer.remote.allowed_ips
    message = wire.PeerState(
        IP=next((str(a.network_address) for a in addresses if a.version == 4), ""),
        ipv6=next((str(a.network_address) for a in addresses if a.version == 6), ""),
        pubKey=peer.remote.key,
        fqdn=peer.remote.fqdn,
        connStatus=peer_status(state, peer),
        connStatusUpdate=timestamp(moment.wall_time(peer.since)),
        lastWireguardHandshake=timestamp(counters.last_handshake if counters else None),
        bytesRx=counters.rx_bytes if counters else 0,
        bytesTx=counters.tx_bytes if counters else 0,
        latency=Duration(),
    )
    path = peer.path
    if path is not None:
        message.localIceCandidateType = path.local_type
        message.remoteIceCandidateType = path.remote_type
        message.localIceCandidateEndpoint = str(path.local)
        message.remoteIceCandidateEndpoint = str(path.remote)
        message.latency.CopyFrom(duration(path.round_trip))
        message.relayed = "relay" in (path.local_type, path.remote_type)
    return message


def timestamp(seconds: float | None) -> Timestamp:
    """A wall-clock time; year 1 for None."""
    if seconds is None:
        return Timestamp(seconds=YEAR_ONE)
    nanoseconds = int(seconds * 1_000_000) * 1_000
    return Timestamp(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)


def duration(seconds: float) -> Duration:
    """A length of time, never negative."""
    nanoseconds = max(0, round(seconds * 1e9))
    return Duration(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)


def _is_connected(connection: Connection) -> bool:
    return connection.status is ConnectionStatus.CONNECTED


def _error(connection: Connection) -> str:
    return "" if _is_connected(connection) else connection.reason
