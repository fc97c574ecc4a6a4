"""What `status` prints, against the forms of NetBird's own command line (daemon document, 5.2)."""

import json
import os
import time

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from rxnet.cli import view_text
from rxnet.cli.view import as_json, document, rfc3339
from rxnet.wire import daemon_pb2 as wire

YEAR_ONE = Timestamp(seconds=-62135596800)
THEN = Timestamp(seconds=1_795_365_299, nanos=153124128)  # 2026-11-22T16:34:59.153124128Z
PAIR = ("10.99.0.14:51821", "10.99.0.15:51822")

DIRECT = wire.PeerState(
    fqdn="host-e.test", IP="100.90.135.69", ipv6="fd0c::b3", pubKey="UrW8=", connStatus="Connected",
    connStatusUpdate=THEN, lastWireguardHandshake=Timestamp(seconds=1_795_365_299), localIceCandidateType="host",
    remoteIceCandidateType="prflx", localIceCandidateEndpoint=PAIR[0], remoteIceCandidateEndpoint=PAIR[1],
    relayAddress="rel://10.99.0.1:8080", bytesRx=1536, bytesTx=156, latency=Duration(nanos=1175303),
)  # fmt: skip
LONELY = wire.PeerState(
    fqdn="<b>&\x1b[31m", IP="100.90.9.2", pubKey="abc=", connStatus="Connecting", connStatusUpdate=THEN,
    lastWireguardHandshake=YEAR_ONE, localIceCandidateType="host", bytesRx=5,
)  # fmt: skip
EVENT = wire.SystemEvent(
    id="43ac", severity=wire.SystemEvent.WARNING, category=wire.SystemEvent.DNS, message="m", timestamp=THEN,
    metadata={"z": "1", "a": "2"},
)  # fmt: skip


def response() -> wire.StatusResponse:
    return wire.StatusResponse(
        status="Connected",
        daemonVersion="0.77.1",
        fullStatus=wire.FullStatus(
            managementState=wire.ManagementState(URL="http://10.99.0.1:8080", connected=True),
            signalState=wire.SignalState(URL="http://10.99.0.1:8080", connected=False, error="gone"),
            localPeerState=wire.LocalPeerState(
                IP="100.90.95.137/16", ipv6="fd0c::70/64", pubKey="own=", fqdn="host-d.test", wgPort=51821
            ),
            peers=[DIRECT, LONELY],
            relays=[
                wire.RelayState(URI="stun:10.99.0.1:3478", available=True),
                wire.RelayState(URI="rel://10.99.0.1:8080", error="no", transport="ws"),
            ],
            events=[EVENT],
        ),
    )


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


GOLDEN = (
    '{"peers":{"total":2,"connected":1,"details":[{"fqdn":"\\u003cb\\u003e\\u0026\\u001b[31m","netbirdIp":"100.90.9.2"'
    ',"publicKey":"abc=","status":"Connecting","lastStatusUpdate":"2026-11-22T16:34:59.153124128Z","connectionType":"-"'
    ',"iceCandidateType":{"local":"","remote":""},"iceCandidateEndpoint":{"local":"","remote":""},"relayAddress":""'
    ',"lastWireguardHandshake":"0001-01-01T00:00:00Z","transferReceived":0,"transferSent":0,"latency":0'
    ',"quantumResistance":false,"networks":null},{"fqdn":"host-e.test","netbirdIp":"100.90.135.69"'
    ',"netbirdIpv6":"fd0c::b3","publicKey":"UrW8=","status":"Connected"'
    ',"lastStatusUpdate":"2026-11-22T16:34:59.153124128Z","connectionType":"P2P","iceCandidateType":{"local":"host"'
    ',"remote":"prflx"},"iceCandidateEndpoint":{"local":"10.99.0.14:51821","remote":"10.99.0.15:51822"}'
    ',"relayAddress":"rel://10.99.0.1:8080","lastWireguardHandshake":"2026-11-22T16:34:59Z","transferReceived":1536'
    ',"transferSent":156,"latency":1175303,"quantumResistance":false,"networks":null}]},"cliVersion":"9"'
    ',"daemonVersion":"0.77.1","daemonStatus":"Connected","management":{"url":"http://10.99.0.1:8080","connected":true'
    ',"error":""},"signal":{"url":"http://10.99.0.1:8080","connected":false,"error":"gone"},"relays":{"total":2'
    ',"available":1,"details":[{"uri":"stun:10.99.0.1:3478","available":true,"error":""}'
    ',{"uri":"rel://10.99.0.1:8080","available":false,"error":"no","transport":"ws"}]},"netbirdIp":"100.90.95.137/16"'
    ',"netbirdIpv6":"fd0c::70/64","publicKey":"own=","usesKernelInterface":false,"wireguardPort":51821'
    ',"fqdn":"host-d.test","quantumResistance":false,"quantumResistancePermissive":false,"networks":null'
    ',"forwardingRules":0,"dnsServers":[],"events":[{"id":"43ac","severity":"WARNING","category":"DNS","message":"m"'
    ',"userMessage":"","timestamp":"2026-11-22T16:34:59.153124128Z","metadata":{"a":"2","z":"1"}}]'
    ',"lazyConnectionEnabled":false,"profileName":"default","sshServer":{"enabled":false,"sessions":[]}}'
)


def test_the_json_document_to_the_byte() -> None:
    assert as_json(document(response(), version="9", profile="default")) == GOLDEN


def test_an_empty_status() -> None:
    text = as_json(document(wire.StatusResponse(status="Idle"), version="9", profile=""))
    found = json.loads(text)
    assert found["peers"] == {"total": 0, "connected": 0, "details": None}
    assert found["relays"]["details"] is None and found["dnsServers"] == [] and found["events"] == []
    assert "netbirdIpv6" not in found and "sessionExpiresAt" not in found


@pytest.mark.parametrize(
    ("seconds", "nanos", "zone", "text"),
    [
        (0, 0, "UTC", "1970-01-01T00:00:00Z"),
        (-62135596800, 0, "UTC", "0001-01-01T00:00:00Z"),
        (1_795_365_299, 500_000_000, "UTC", "2026-11-22T16:34:59.5Z"),
        (1_795_365_299, 1, "XXX-5:30", "2026-11-22T22:04:59.000000001+05:30"),
    ],
)
def test_times(seconds: int, nanos: int, zone: str, text: str) -> None:
    os.environ["TZ"] = zone
    time.tzset()
    assert rfc3339(Timestamp(seconds=seconds, nanos=nanos)) == text


def test_plain() -> None:
    lines = view_text.summary(response(), version="9", profile="default").splitlines()
    assert lines[0].startswith("OS: linux/")
    assert lines[1:] == [
        "Daemon version: 0.77.1",
        "CLI version: 9",
        "Profile: default",
        "Management: Connected",
        "Signal: Disconnected, reason: gone",
        "Relays: 1/2 Available",
        "Nameservers: 0/0 Available",
        "FQDN: host-d.test",
        "NetBird IP: 100.90.95.137/16",
        "NetBird IPv6: fd0c::70/64",
        "Interface type: Userspace",
        "Wireguard port: 51821",
        "Quantum resistance: false",
        "Lazy connection: false",
        "SSH Server: Disabled",
        "Networks: -",
        "Peers count: 1/2 Connected",
    ]


def test_detail() -> None:
    now = THEN.seconds + 39.5
    lines = view_text.details(response(), {"abc=": "no answer"}, now).splitlines()
    assert lines == [
        "Peers detail:",
        " <b>& [31m:",
        "  NetBird IP: 100.90.9.2",
        "  Public key: abc=",
        "  Status: Connecting",
        "  Reason: no answer",
        "  -- detail --",
        "  Connection type: -",
        "  ICE candidate (Local/Remote): -/-",
        "  ICE candidate endpoints (Local/Remote): -/-",
        "  Relay server address: ",
        "  Last connection update: 39 seconds ago",
        "  Last WireGuard handshake: -",
        "  Transfer status (received/sent) 0 B/0 B",
        "  Quantum resistance: false",
        "  Networks: -",
        "  Latency: 0s",
        "",
        " host-e.test:",
        "  NetBird IP: 100.90.135.69",
        "  NetBird IPv6: fd0c::b3",
        "  Public key: UrW8=",
        "  Status: Connected",
        "  -- detail --",
        "  Connection type: P2P",
        "  ICE candidate (Local/Remote): host/prflx",
        "  ICE candidate endpoints (Local/Remote): 10.99.0.14:51821/10.99.0.15:51822",
        "  Relay server address: rel://10.99.0.1:8080",
        "  Last connection update: 39 seconds ago",
        "  Last WireGuard handshake: 39 seconds ago",
        "  Transfer status (received/sent) 1.5 KiB/156 B",
        "  Quantum resistance: false",
        "  Networks: -",
        "  Latency: 1.175303ms",
        "",
        "Events:",
        "  [WARNING] DNS (43ac)",
        "    Message: m",
        "    Time: 39 seconds ago",
        "    Metadata: a: 2, z: 1",
    ]
    detailed = view_text.summary(response(), version="9", profile="p", detail=True)
    assert "Management: Connected to http://10.99.0.1:8080\n" in detailed
    assert "Relays: \n  [stun:10.99.0.1:3478] is Available\n" in detailed
    assert "  [rel://10.99.0.1:8080] is Unavailable, reason: no\nNameservers: \n" in detailed


@pytest.mark.parametrize(
    ("ago", "text"),
    [(0, "Now"), (1, "1 second ago"), (63, "1 minute, 3 seconds ago"), (3600, "1 hour ago"),
     (7440, "2 hours, 4 minutes ago"), (262800, "3 days, 1 hour ago"), (-5, "Now")],
)  # fmt: skip
def test_ages(ago: int, text: str) -> None:
    assert view_text.age(THEN, THEN.seconds + ago + 0.2) == text
    assert view_text.age(YEAR_ONE, 0) == view_text.age(Timestamp(), 0) == "-"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0s"), (7, "7ns"), (1500, "1.5µs"), (10_000_000, "10ms"), (1_000_000_000, "1s"), (123_500_000_000, "2m3.5s"),
     (3_600_000_000_000, "1h0m0s")],
)  # fmt: skip
def test_durations(nanoseconds: int, text: str) -> None:
    assert view_text.go_duration(nanoseconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")])
def test_sizes(count: int, text: str) -> None:
    assert view_text.size(count) == text
