"""State to the messages of rxnet's own API (proto/rxnet/v1/daemon.proto): the same facts with their reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rxnet.daemon.status import client_status, duration, peer_reason, peer_status, timestamp
from rxnet.daemon.subject import NOTICES, Moment, PeerStatistics
from rxnet.engine.state import Connection, ConnectionStatus, Peer, State
from rxnet.model import Path, PeerKey, ServerAddress
from rxnet.v1 import daemon_pb2 as v1


def summary(
    state: State, moment: Moment, *, management: ServerAddress, version: str, sequence: int = 0, process_id: int = 0
) -> v1.StatusResponse:
    """The status without the peers, which may be many."""
    local, device, link = state.local, state.device, state.link
    return v1.StatusResponse(
        version=version,
        status=client_status(state),
        public_key=state.own_key,
        management=_server(state.management, management, moment),
        signal=_server(state.signal, state.signal.server, moment),
        device=v1.Device(
            status=device.status.value, name=device.name, port=device.port, kernel=device.kernel, reason=device.reason
        ),
        network=v1.Network(
            known=link.known,
            up=link.up,
            addresses=[v1.InterfaceAddress(interface=i, address=str(a)) for i, a in link.network.addresses],
            age=duration(moment.engine - link.since) if link.known else None,
        ),
        address=str(local.address) if local else "",
        address_v6=str(local.address_v6) if local and local.address_v6 else "",
        fqdn=local.fqdn if local else "",
        peers_total=len(state.peers),
        peers_connected=state.connected,
        notices=NOTICES,
        sequence=sequence,
        gate_open=state.gate.open,
        gate_reason="" if state.gate.open else state.gate.reason,
        process_id=process_id,
    )


def peers(state: State, statistics: Mapping[PeerKey, PeerStatistics], moment: Moment) -> Iterator[v1.Peer]:
    """The peers in key order, one by one."""
    for key in sorted(state.peers):
        yield _peer(state, state.peers[key], statistics.get(key), moment)


def _peer(state: State, peer: Peer, counters: PeerStatistics | None, moment: Moment) -> v1.Peer:
    message = v1.Peer(
        public_key=peer.remote.key,
        fqdn=peer.remote.fqdn,
        addresses=[str(network.network_address) for network in peer.remote.allowed_ips],
        status=peer_status(state, peer),
        reason=peer_reason(state, peer),
        age=duration(moment.engine - peer.since),
        path=_path(peer.path) if peer.path else None,
        offers=peer.offers if peer.epoch == state.gate.epoch else 0,
    )
    if peer.next_offer is not None and state.gate.open and not peer.connected:
        message.next_offer_in.CopyFrom(duration(peer.next_offer - moment.engine))
    if counters is not None:
        message.bytes_received = counters.rx_bytes
        message.bytes_sent = counters.tx_bytes
        if counters.last_handshake is not None:
            message.last_handshake.CopyFrom(timestamp(counters.last_handshake))
    return message


def _path(path: Path) -> v1.Path:
    return v1.Path(
        local=str(path.local),
        remote=str(path.remote),
        local_type=path.local_type,
        remote_type=path.remote_type,
        round_trip=duration(path.round_trip),
    )


def _server(connection: Connection, server: ServerAddress | None, moment: Moment) -> v1.Server:
    message = v1.Server(
        url=str(server) if server else "",
        status=connection.status.value,
        reason="" if connection.status is ConnectionStatus.CONNECTED else connection.reason,
        failures=connection.attempt,
        age=duration(moment.engine - connection.since),
    )
    if connection.status is ConnectionStatus.WAITING and connection.retry_at is not None:
        message.retry_in.CopyFrom(duration(connection.retry_at - moment.engine))
    return message
