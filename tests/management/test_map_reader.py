"""Network maps as differences: what is delivered, what is refused, and what a cancelled reader still owes."""

from __future__ import annotations

import base64
import json
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_network
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lying_management import network_map, own_config, remote, server_config

from rxnet.errors import ProtocolError
from rxnet.events import NetworkMapFaulted, NetworkMapReceived, ServersAnnounced
from rxnet.management.map_reader import ChecksNamed, MapReader
from rxnet.model import LocalPeer, PeerKey, RemotePeer, ServerAddress
from rxnet.wire import box
from rxnet.wire import management_pb2 as pb

VECTORS = Path(__file__).parents[1] / "vectors"
OWN = box.encode_key(b"\xaa" * 32)


def _recorded() -> list[Any]:
    found = []
    for name in ("management_messages.json", "dataplane_maps.json"):
        for case in json.loads((VECTORS / name).read_text()):
            if case.get("message", "SyncResponse") == "SyncResponse":
                title = case.get("name") or f"{case['case']}-{case['peer']}"
                found.append(pytest.param(base64.b64decode(case["protobuf_base64"]), case["json"], id=title))
    return found


class Engine:
    """Applies parts as the engine does."""

    def __init__(self) -> None:
        self.peers: dict[PeerKey, RemotePeer] = {}
        self.local: LocalPeer | None = None
        self.faults: list[NetworkMapFaulted] = []
        self.parts: list[NetworkMapReceived] = []
        self.checks: tuple[str, ...] | None = None

    def take(self, said: object) -> None:
        if isinstance(said, NetworkMapReceived):
            self.parts.append(said)
            self.local = said.local or self.local
            # A key in both would cost the peer its tunnel.
            assert not {peer.key for peer in said.changed} & set(said.removed)
            for key in said.removed:
                del self.peers[key]  # only what was delivered may be removed
            for peer in said.changed:
                assert self.peers.get(peer.key) != peer  # only what differs is delivered
                self.peers[peer.key] = peer
        elif isinstance(said, NetworkMapFaulted):
            self.faults.append(said)
        elif isinstance(said, ChecksNamed):
            self.checks = said.paths

    def read(self, reader: MapReader, *messages: bytes) -> Engine:
        for message in messages:
            for said in reader.read(message):
                self.take(said)
        return self


def reader(**more: Any) -> MapReader:
    one = MapReader(OWN, **more)
    one.new_stream(3)
    return one


def names(engine: Engine) -> set[str]:
    return {peer.fqdn.partition(".")[0] for peer in engine.peers.values()}


# -- recorded maps


@pytest.mark.parametrize(("data", "rendered"), _recorded())
def test_recorded_maps(data: bytes, rendered: dict[str, Any]) -> None:
    engine = Engine().read(reader(), data)
    network = rendered["NetworkMap"]
    expected = {
        one["wgPubKey"]: (
            tuple(ip_network(text) for text in one["allowedIps"]),
            one["fqdn"],
            one["agentVersion"],
        )
        for one in network.get("remotePeers", [])
    }
    assert {p.key: (p.allowed_ips, p.fqdn, p.agent_version) for p in engine.peers.values()} == expected
    assert engine.faults == []
    assert engine.parts[-1].serial == int(network["Serial"])
    assert engine.parts[-1].last
    config = network.get("peerConfig")
    if config is None:
        assert engine.local is None
    else:
        assert engine.local is not None
        assert str(engine.local.address) == config["address"]
        assert engine.local.fqdn == config["fqdn"]
        v6 = config.get("address_v6") or config.get("addressV6")
        raw = base64.b64decode(v6) if v6 else None
        assert engine.local.address_v6 == (IPv6Interface((raw[:-1], raw[-1])) if raw else None)
    assert engine.checks == tuple(path for check in rendered.get("Checks", []) for path in check["Files"])


def test_the_recorded_sequence_join_and_deletion() -> None:
    cases = {case["name"]: case for case in json.loads((VECTORS / "management_messages.json").read_text())}
    messages = [
        base64.b64decode(cases[name]["protobuf_base64"]) for name in ("sync_first", "sync_update", "sync_peer_deleted")
    ]
    one, engine = reader(), Engine()
    first = list(one.read(messages[0]))
    assert isinstance(first[0], ServersAnnounced)
    assert first[0].stuns == (ServerAddress("10.99.0.1", 3478),)
    for said in first:
        engine.take(said)
    assert names(engine) == {"alpha-134-57"}
    engine.read(one, messages[1])
    assert names(engine) == {"alpha-134-57", "beta"}
    assert [peer.fqdn for peer in engine.parts[-1].changed] == ["beta.netbird.selfhosted"]
    engine.read(one, messages[2])
    assert engine.peers == {}
    assert engine.parts[-1].local is None
    assert engine.local is not None


# -- differences


def test_only_differences_are_delivered() -> None:
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), remote(2), serial=1))
    engine.read(one, network_map(remote(2), remote(1), serial=1))  # another order, an equal serial
    assert engine.parts[-1].changed == ()
    engine.read(one, network_map(remote(1), remote(2, fqdn="renamed"), remote(3), serial=2))
    assert [peer.fqdn for peer in engine.parts[-1].changed] == ["renamed", "peer-3.example.org"]
    engine.read(one, network_map(remote(3), serial=3))
    assert set(engine.parts[-1].removed) == {box.encode_key(n.to_bytes(32, "big")) for n in (1, 2)}
    assert names(engine) == {"peer-3"}


def test_a_large_map_comes_in_parts_with_pauses() -> None:
    peers = [remote(n) for n in range(1, 1001)]
    one, engine = reader(), Engine()
    said = list(one.read(network_map(*peers)))
    for each in said:
        engine.take(each)
    assert [len(part.changed) for part in engine.parts] == [256, 256, 256, 232]
    assert [part.last for part in engine.parts] == [False, False, False, True]
    assert engine.parts[0].local is not None
    assert all(part.local is None for part in engine.parts[1:])
    assert len(engine.peers) == 1000


def test_a_map_of_refused_entries_pauses_too() -> None:
    peers = [remote(n, allowedIps=["0.0.0.0/0"]) for n in range(1, 2001)]
    said = list(reader().read(network_map(*peers)))
    assert said.count(None) >= 2000 // 256 - 1


def test_what_was_not_delivered_comes_with_the_next_map() -> None:
    peers = [remote(n) for n in range(1, 1001)]
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(5000)))
    interrupted = one.read(network_map(*peers, serial=2))
    for said in islice((said for said in interrupted if said is not None), 2):
        engine.take(said)
    interrupted.close()  # the stream was cancelled
    assert len(engine.peers) == 513
    one.new_stream(4)
    engine.read(one, network_map(*peers, serial=2))
    assert sum(len(part.changed) for part in engine.parts[3:]) == 1000 - 512
    assert names(engine) == {f"peer-{n}" for n in range(1, 1001)}  # and peer 5000 was removed


def test_a_reader_stopped_before_its_first_part_has_delivered_nothing() -> None:
    one = reader()
    one.read(network_map(remote(1))).close()
    assert names(Engine().read(one, network_map(remote(1)))) == {"peer-1"}


# -- refusals


BAD_KEYS = ["", "x", "A" * 44, "A" * 42 + "B=", "\x1b" * 44, "A" * 100_000]
BAD_ADDRESSES = [
    [], [""], ["100.65.0.9"], ["100.65.0.9/"], ["100.65.0.9/33"], ["100.65.0.9/x"], ["100.65.0.256/32"],
    ["0.0.0.0/0"], ["::/0"], ["100.65.0.0/24"], ["100.65.0.9/31"], ["fd00::1/127"], ["0.0.0.0/32"], ["127.0.0.1/32"],
    ["224.0.0.1/32"], ["255.255.255.255/32"], ["169.254.1.1/32"], ["::1/128"], ["::/128"], ["fe80::1/128"],
    ["ff02::1/128"], ["::ffff:100.65.0.9/128"], ["fd00::1%e0/128"], ["100.65.0.9/32", "0.0.0.0/0"],
    ["100.64.0.1/32"], ["1.1.1.1/" + "0" * 9000 + "32"], [f"100.65.1.{n}/32" for n in range(17)],
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_bad_key_is_refused_and_the_rest_applied(key: str) -> None:
    engine = Engine().read(reader(), network_map(remote(1), remote(2, wgPubKey=key), remote(3)))
    assert names(engine) == {"peer-1", "peer-3"}
    assert engine.faults[0].count == 1
    assert "peer-2" in engine.faults[0].complaints[0]
    assert len(engine.faults[0].complaints[0]) < 400


@pytest.mark.parametrize("addresses", BAD_ADDRESSES, ids=[str(each)[:40] for each in BAD_ADDRESSES])
def test_a_bad_address_is_refused_and_the_rest_applied(addresses: list[str]) -> None:
    engine = Engine().read(reader(), network_map(remote(1), remote(2, allowedIps=addresses), remote(3)))
    assert names(engine) == {"peer-1", "peer-3"}
    assert engine.faults[0].count == 1
    assert "peer-2" in engine.faults[0].complaints[0]
    assert len(engine.faults[0].complaints[0]) < 400


def test_our_own_entry_is_dropped_without_complaint() -> None:
    engine = Engine().read(reader(), network_map(remote(1), remote(2, wgPubKey=OWN, allowedIps=["100.64.0.1/32"])))
    assert names(engine) == {"peer-1"}
    assert engine.faults == []


def test_of_two_entries_with_one_key_the_first_counts() -> None:
    twin = remote(2, wgPubKey=remote(1).wgPubKey)
    engine = Engine().read(reader(), network_map(remote(1), twin, remote(1)))
    assert names(engine) == {"peer-1"}
    assert engine.faults[0].count == 2
    assert "twice" in engine.faults[0].complaints[0]


def test_a_second_entry_for_a_known_key_is_refused() -> None:
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), serial=1))
    twin = remote(2, wgPubKey=remote(1).wgPubKey)
    engine.read(one, network_map(remote(1), twin, serial=2))
    assert names(engine) == {"peer-1"}
    assert engine.faults[0].count == 1


def test_an_address_belongs_to_the_first_who_claims_it() -> None:
    thief = remote(2, allowedIps=["100.65.0.2/32", "100.65.0.1/32"])
    engine = Engine().read(reader(), network_map(remote(1), thief))
    assert names(engine) == {"peer-1"}
    assert "peer-2" in engine.faults[0].complaints[0]
    assert remote(1).wgPubKey in engine.faults[0].complaints[0]


def test_a_refused_peer_becomes_good_when_the_owner_leaves() -> None:
    heir = remote(2, allowedIps=["100.65.0.1/32"])
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), heir, serial=1))
    assert names(engine) == {"peer-1"}
    engine.read(one, network_map(heir, serial=2))
    assert names(engine) == {"peer-2"}
    assert len(engine.faults) == 1
    assert engine.peers[PeerKey(heir.wgPubKey)].allowed_ips == (IPv4Network("100.65.0.1/32"),)


def test_a_good_entry_that_turns_bad_is_removed() -> None:
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), remote(2), serial=1))
    engine.read(one, network_map(remote(1), remote(2, allowedIps=["0.0.0.0/0"]), serial=2))
    assert names(engine) == {"peer-1"}
    assert engine.faults[0].count == 1
    engine.read(one, network_map(remote(1), remote(2), serial=3))
    assert names(engine) == {"peer-1", "peer-2"}


def test_a_newcomer_cannot_take_an_address() -> None:
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), serial=1))
    engine.read(one, network_map(remote(1), remote(2, allowedIps=["100.65.0.1/32"]), serial=2))
    assert names(engine) == {"peer-1"}
    assert engine.faults[0].count == 1


def test_an_address_is_free_again_after_its_owner_left() -> None:
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), remote(3), serial=1))
    engine.read(one, network_map(remote(3), serial=2))
    engine.read(one, network_map(remote(3), remote(2, allowedIps=["100.65.0.1/32"]), serial=3))
    assert names(engine) == {"peer-2", "peer-3"}
    assert engine.faults == []


def test_a_changed_entry_is_changed_and_not_removed() -> None:
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), remote(2), serial=1))
    engine.read(one, network_map(remote(1), remote(2, fqdn="renamed"), serial=2))
    assert engine.parts[-1].removed == ()
    assert [peer.fqdn for peer in engine.parts[-1].changed] == ["renamed"]


def test_a_map_interrupted_before_its_end_still_removes() -> None:
    one, engine = reader(part=2), Engine()
    engine.read(one, network_map(remote(9), serial=1))
    peers = [remote(n) for n in range(1, 6)]
    interrupted = one.read(network_map(*peers, serial=2))
    engine.take(next(said for said in interrupted if isinstance(said, NetworkMapReceived)))
    interrupted.close()
    engine.read(one, network_map(*peers[:3], serial=2))
    assert names(engine) == {"peer-1", "peer-2", "peer-3"}


def test_addresses_may_be_exchanged() -> None:
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), remote(2), serial=1))
    swapped = (remote(1, allowedIps=list(remote(2).allowedIps)), remote(2, allowedIps=list(remote(1).allowedIps)))
    engine.read(one, network_map(*swapped, serial=2))
    assert engine.faults == []
    assert len(engine.parts[-1].changed) == 2


def test_our_own_new_address_is_taken_from_others() -> None:
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), remote(2), serial=1))
    moved = pb.PeerConfig(address="100.65.0.2/16")
    engine.read(one, network_map(remote(1), remote(2), serial=2, peerConfig=moved))
    assert names(engine) == {"peer-1"}
    assert engine.local is not None
    assert engine.local.address == IPv4Interface("100.65.0.2/16")
    assert "ourselves" in engine.faults[0].complaints[0]


def test_too_many_peers_are_refused_from_the_limit_on() -> None:
    engine = Engine().read(reader(peers=10), network_map(*(remote(n) for n in range(1, 31))))
    assert names(engine) == {f"peer-{n}" for n in range(1, 11)}
    assert engine.faults[0].count == 20
    assert "30 peers" in engine.faults[0].complaints[0]


def test_complaints_are_few_and_counted() -> None:
    engine = Engine().read(reader(), network_map(*(remote(n, allowedIps=[]) for n in range(1, 101))))
    assert engine.faults[0].count == 100
    assert len(engine.faults[0].complaints) == 5


def test_long_and_wild_names_are_cut() -> None:
    engine = Engine().read(reader(), network_map(remote(1, fqdn="\x1b[1m" + "f" * 999, agentVersion="\n9" * 500)))
    (peer,) = engine.peers.values()
    assert peer.fqdn == "[1m" + "f" * 249
    assert peer.agent_version == "9" * 32


def test_ipv6_addresses_are_left_out_when_we_have_none() -> None:
    both = remote(1, allowedIps=["100.65.0.1/32", "fd00::1/128"])
    only = remote(2, allowedIps=["fd00::2/128"])
    one, engine = reader(), Engine()
    engine.read(one, network_map(both, only, serial=1))
    assert [peer.allowed_ips for peer in engine.peers.values()] == [(IPv4Network("100.65.0.1/32"),)]
    assert engine.faults[0].count == 1
    with_v6 = own_config()
    with_v6.address_v6 = b"\xfd" + bytes(14) + b"\xee\x40"
    engine.read(one, network_map(both, only, serial=2, peerConfig=with_v6))
    assert len(engine.faults) == 1
    assert {ip for peer in engine.peers.values() for ip in peer.allowed_ips} == {
        IPv4Network("100.65.0.1/32"),
        IPv6Network("fd00::1/128"),
        IPv6Network("fd00::2/128"),
    }


# -- serials, messages without map, nonsense


def test_an_older_serial_is_ignored_within_a_stream_only() -> None:
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), serial=9))
    moved = pb.PeerConfig(address="100.64.0.77/16")
    engine.read(one, network_map(remote(2), serial=8, peerConfig=moved))
    assert names(engine) == {"peer-1"}
    assert engine.parts[-1].serial == 9
    assert engine.local is not None
    assert engine.local.address == IPv4Interface("100.64.0.77/16")  # what it says about us counts
    one.new_stream(4)
    engine.read(one, network_map(remote(2), serial=8))
    assert names(engine) == {"peer-2"}
    assert engine.parts[-1].generation == 4


def test_the_empty_flag_wins_over_the_list() -> None:
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), serial=1))
    engine.read(one, network_map(remote(1), remote(2), serial=2, remotePeersIsEmpty=True))
    assert engine.peers == {}


def test_an_empty_list_without_the_flag_empties_too() -> None:
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), serial=1))
    engine.read(one, network_map(serial=2, remotePeersIsEmpty=False))
    assert engine.peers == {}


def test_a_message_without_map_changes_no_peer() -> None:
    one = reader()
    Engine().read(one, network_map(remote(1)))
    control = pb.SyncResponse(netbirdConfig=pb.NetbirdConfig(relay=pb.RelayConfig(urls=["rels://r:443"])))
    assert list(one.read(control.SerializeToString())) == []
    assert list(one.read(b"")) == []


def test_stun_servers_are_announced_when_they_differ() -> None:
    one = reader()
    message = pb.SyncResponse(netbirdConfig=server_config()).SerializeToString()
    (announced,) = one.read(message)
    assert announced == ServersAnnounced(3, (ServerAddress("192.0.2.1", 3478),))
    assert list(one.read(message)) == []
    one.new_stream(4)
    assert len(list(one.read(message))) == 1
    one.new_stream(5, None, (ServerAddress("192.0.2.1", 3478),))  # Login said so
    assert list(one.read(message)) == []


@pytest.mark.parametrize("change", [{"Version": 1}, {"Version": -1}, {"NetworkMapEnvelope": pb.NetworkMapEnvelope()}])
def test_another_form_of_map_is_a_protocol_error(change: dict[str, Any]) -> None:
    message = pb.SyncResponse.FromString(network_map(remote(1)))
    message.MergeFrom(pb.SyncResponse(**change))
    with pytest.raises(ProtocolError, match="form"):
        list(reader().read(message.SerializeToString()))


def test_a_bad_own_address_keeps_the_old_one() -> None:
    bad = pb.PeerConfig(address="nonsense/16")
    with pytest.raises(ProtocolError, match="own address"):
        list(reader().read(network_map(remote(1), peerConfig=bad)))
    one, engine = reader(), Engine()
    engine.read(one, network_map(remote(1), serial=1), network_map(remote(1), remote(2), serial=2, peerConfig=bad))
    assert names(engine) == {"peer-1", "peer-2"}
    assert engine.local is not None
    assert engine.local.address == IPv4Interface("100.64.0.1/16")
    assert "100.64.0.1/16 is kept" in engine.faults[0].complaints[0]


@given(st.binary(max_size=400))
def test_any_bytes_are_parts_or_a_protocol_error(data: bytes) -> None:
    for message in (data, pb.SplitSyncResponse(NetworkMap=data).SerializeToString()):
        try:
            Engine().read(reader(), message)
        except ProtocolError as error:
            assert len(str(error)) < 300


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_any_entries_are_peers_or_complaints(entries: list[bytes]) -> None:
    split = pb.SplitNetworkMap(peerConfig=own_config(), remotePeers=entries)
    engine = Engine().read(reader(), pb.SplitSyncResponse(NetworkMap=split.SerializeToString()).SerializeToString())
    assert sum(fault.count for fault in engine.faults) == len(entries) - len(engine.peers)


# Mostly good entries, so that the reader's short way is taken as often as the long one.
ENTRIES = st.builds(
    lambda number, other, name: remote(number, allowedIps=[f"100.65.0.{other or number}/32"], fqdn=name),
    st.integers(1, 6),
    st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3]),
    st.sampled_from(["a", "b"]),
) | st.builds(lambda number: remote(number, allowedIps=["0.0.0.0/0"]), st.integers(1, 6))
MAPS = st.lists(ENTRIES, max_size=6, unique_by=lambda entry: entry.wgPubKey)


@given(
    st.lists(st.tuples(MAPS, st.booleans(), st.integers(0, 4)), min_size=1, max_size=8),
    st.integers(1, 3),
)
def test_what_a_map_means_depends_on_that_map_alone(
    maps: list[tuple[list[pb.RemotePeerConfig], bool, int]], part: int
) -> None:
    """Whatever came before, complete or interrupted: the result is what a new reader makes of the last map."""
    one, engine = reader(part=part), Engine()
    for serial, (entries, interrupted, steps) in enumerate(maps, 1):
        message = network_map(*entries, serial=serial)
        said = one.read(message)
        engine.faults.clear()
        for each in islice(said, steps) if interrupted else said:
            engine.take(each)
        said.close()
        if not interrupted:
            fresh = Engine().read(reader(part=part), message)
            assert engine.peers == fresh.peers
            assert engine.faults == fresh.faults
