"""Building requests and reading Login answers, against recorded messages and against nonsense."""

from __future__ import annotations

import base64
import json
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from rxnet.errors import ProtocolError
from rxnet.management import codec
from rxnet.model import PeerKey, ServerAddress
from rxnet.wire import management_pb2 as pb

VECTORS = Path(__file__).parents[1] / "vectors"
MESSAGES: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads((VECTORS / "management_messages.json").read_text())
}
PREFIXES = json.loads((VECTORS / "derived_values.json").read_text())["compact_prefixes"]
KEY = PeerKey("B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=")


def test_the_recorded_login_is_understood() -> None:
    login = codec.decode_login(base64.b64decode(MESSAGES["login_with_checks"]["protobuf_base64"]))
    assert login.local.address == IPv4Interface("100.127.81.56/16")
    assert login.local.address_v6 == IPv6Interface("fd1f:97a3:c4be:220:9544:833c:c51e:7da2/64")
    assert login.local.fqdn == "vec-b.netbird.selfhosted"
    assert login.local.mtu == 1280
    assert login.signal == ServerAddress("10.99.0.1", 8080, tls=False)
    assert login.stuns == (ServerAddress("10.99.0.1", 3478),)
    assert login.checks == ("/usr/bin/true", "/bin/true", "C:\\x.exe")
    assert login.complaints == ()


@pytest.mark.parametrize("case", PREFIXES, ids=[case["text"] for case in PREFIXES])
def test_recorded_compact_prefixes(case: dict[str, str]) -> None:
    assert str(codec.compact_prefix(base64.b64decode(case["base64"]))) == case["text"]


def test_compact_prefixes_of_mapped_addresses_become_ipv4() -> None:
    mapped = b"\0" * 10 + b"\xff\xff" + bytes([100, 64, 0, 1])
    assert codec.compact_prefix(mapped + b"\x10") == IPv4Interface("100.64.0.1/16")
    with pytest.raises(ProtocolError):
        codec.compact_prefix(mapped + b"\x21")  # 33 bits of 32


@given(st.binary(max_size=40))
def test_any_compact_prefix_is_read_or_refused(data: bytes) -> None:
    try:
        prefix = codec.compact_prefix(data)
    except ProtocolError:
        assert len(data) not in (5, 17) or data[-1] > 32
    else:
        assert prefix.network.prefixlen == data[-1]


def test_our_meta_says_what_a_go_client_says() -> None:
    recorded = json.loads((VECTORS / "go_login_meta.json").read_text())["json"]
    meta = codec.SystemMeta(
        hostname="gopeer",
        os="Debian GNU/Linux",
        os_version="12",
        kernel="Linux",
        kernel_version="6.1.0",
        platform="x86_64",
        network_addresses=(
            codec.NetworkAddress("10.99.0.16/16", "02:00:00:00:00:01"),
            codec.NetworkAddress("fd99::10/64", "02:00:00:00:00:01"),
        ),
        environment="Docker",
    )
    ours = json_format.MessageToDict(codec.encode_meta(meta), preserving_proto_field_name=True)
    assert ours.pop("netbirdVersion").startswith("0.77.0+rxnet.")
    assert recorded.pop("netbirdVersion") == "0.77.1"
    assert recorded.pop("syncMessageVersion") == 1  # we announce 0, the plain map
    assert ours == recorded


def test_without_ipv6_neither_capability_nor_flag_ask_for_it() -> None:
    meta = codec.encode_meta(codec.SystemMeta("we", ipv6=False))
    assert list(meta.capabilities) == [pb.PeerCapabilitySourcePrefixes]
    assert meta.flags.disableIPv6


def test_login_and_sync_carry_the_same_meta() -> None:
    meta = codec.SystemMeta("we", os_version="12")
    files = (codec.FileState("/bin/sh", True, True),)
    login = pb.LoginRequest.FromString(codec.encode_login(meta, KEY, setup_key="k", dns_labels=("a", "b")))
    sync = pb.SyncRequest.FromString(codec.encode_sync(meta, files))
    told = pb.SyncMetaRequest.FromString(codec.encode_sync_meta(meta, files))
    assert login.setupKey == "k"
    assert list(login.dnsLabels) == ["a", "b"]
    assert login.peerKeys.wgPubKey == KEY.encode()
    assert sync.meta == told.meta
    assert [(file.path, file.exist, file.processIsRunning) for file in sync.meta.files] == [("/bin/sh", True, True)]
    sync.meta.ClearField("files")
    assert sync.meta == login.meta


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("alpha", "alpha"),
        ("alpha.example.org", "alpha.example.org"),
        ("Jörg Müller PC", "Jörg Müller PC"),
        ("___", "rxnet"),  # would become the label "-"
        (".foo", "rxnet"),  # would become an empty label
        ("", "rxnet"),
        ("x" * 300, "x" * 253),
    ],
)
def test_host_names_give_the_server_a_usable_label(name: str, sent: str) -> None:
    assert codec.encode_meta(codec.SystemMeta(name)).hostname == sent


def _login(**changes: Any) -> bytes:
    config = {"signal": pb.HostConfig(uri="s.example.org:443", protocol=pb.HostConfig.HTTPS)}
    peer = {"address": "100.64.0.1/16"}
    config.update(changes.pop("config", {}))
    peer.update(changes.pop("peer", {}))
    return pb.LoginResponse(
        netbirdConfig=pb.NetbirdConfig(**config), peerConfig=pb.PeerConfig(**peer)
    ).SerializeToString()


@pytest.mark.parametrize(
    "address",
    ["", "100.64.0.1", "100.64.0.1/", "100.64.0.1/33", "100.64.0.1/-1", "100.64.0.1/ 8", "0.0.0.0/0", "1.2.3.4/0",
     "fd00::1/64", "100.64.0.01/16", "127.0.0.1/8", "224.0.0.1/4", "a" * 10_000, "100.64.0.1/" + "9" * 5_000],
)  # fmt: skip
def test_a_login_without_usable_own_address_is_refused(address: str) -> None:
    with pytest.raises(ProtocolError, match="own address") as caught:
        codec.decode_login(_login(peer={"address": address}))
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "uri",
    ["", "host", "host:", "host:0", "host:65536", "host:port", ":443", "http://host:443", "[fd00::1]", "[x]:1",
     "fd00::1:443", "a b:1", "h\nost:1", "host:١", "x" * 5000 + ":1"],
)  # fmt: skip
def test_a_login_without_usable_signal_address_is_refused(uri: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        codec.decode_login(_login(config={"signal": pb.HostConfig(uri=uri)}))
    assert len(str(caught.value)) < 250


def test_signal_may_be_an_ipv6_address() -> None:
    login = codec.decode_login(
        _login(config={"signal": pb.HostConfig(uri="[fd00::1]:80", protocol=pb.HostConfig.HTTP)})
    )
    assert login.signal == ServerAddress("fd00::1", 80, tls=False)


def test_bad_stun_servers_are_left_out_with_a_complaint() -> None:
    uris = [
        "stun:a.example.org",
        "stun:b:70000",
        "turn:c:1",
        "stuns:d:2",
        "stun:[fd00::1]:3479",
        "stun:a.example.org:3478",
    ]
    login = codec.decode_login(_login(config={"stuns": [pb.HostConfig(uri=uri) for uri in uris]}))
    assert login.stuns == (ServerAddress("a.example.org", 3478), ServerAddress("fd00::1", 3479))
    assert len(login.complaints) == 3
    assert all(any(uri.split(":", 1)[1] in text for text in login.complaints) for uri in uris[1:4])


@pytest.mark.parametrize("mtu", [0, 575, 8193, -1])
def test_an_mtu_out_of_bounds_is_the_default(mtu: int) -> None:
    login = codec.decode_login(_login(peer={"mtu": mtu}))
    assert login.local.mtu == 1280
    assert len(login.complaints) == (mtu != 0)


def test_a_good_mtu_is_taken() -> None:
    assert codec.decode_login(_login(peer={"mtu": 1420})).local.mtu == 1420


@pytest.mark.parametrize(
    "raw", [b"\1\2\3", bytes([100, 64, 0, 1, 16]), bytes(16) + b"\x40", b"\xfd" + bytes(15) + b"\0"]
)
def test_a_bad_own_ipv6_address_is_left_out_with_a_complaint(raw: bytes) -> None:
    login = codec.decode_login(_login(peer={"address_v6": raw}))
    assert login.local.address_v6 is None
    assert "IPv6" in login.complaints[0]


def test_names_cannot_play_tricks_on_a_terminal() -> None:
    assert codec.decode_login(_login(peer={"fqdn": "a\x1b[2Jb\n" + "c" * 300})).local.fqdn == "a[2Jb" + "c" * 246


@given(st.binary(max_size=300))
def test_any_bytes_are_a_login_or_a_protocol_error(data: bytes) -> None:
    try:
        codec.decode_login(data)
    except ProtocolError as error:
        assert len(str(error)) < 300
    try:
        codec.decode_server_key(data)
    except ProtocolError as error:
        assert len(str(error)) < 300
