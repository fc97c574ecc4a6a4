"""ICE on WireGuard's own port with real programs: hosts in network namespaces, both ways to share the port."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import product

import pytest
from ice_hosts import HostProcess, negotiate, two_hosts, use
from wg_namespaces import hosts_behind_routers, hosts_on_a_lan, lan_of, missing, run, wireguard_programs

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
    pytest.mark.skipif(not wireguard_programs(), reason="no WireGuard program: set WIREGUARD_GO"),
]

METHODS = ["raw", "reuseport"]
CASES = list(product(wireguard_programs() or [""], METHODS))

STUN_SERVER = """
import socket, sys
from aioice import stun
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("203.0.113.100", 3478)); print("ready", flush=True)
while True:
    data, source = s.recvfrom(2000)
    question = stun.parse_message(data)
    answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, question.transaction_id)
    answer.attributes["XOR-MAPPED-ADDRESS"] = source
    s.sendto(bytes(answer), source)
"""


def ping_both_ways(pair: list[HostProcess], limit: int = 2) -> None:
    """WireGuard's handshake takes 10 ms; one that both sides began would take 5 s, beyond the limit."""
    for host, target in ((pair[0], 2), (pair[1], 1)):
        run(f"ping -c 2 -i 0.05 -W {limit} -w {limit} 100.64.0.{target}", host.namespace)


def connect(pair: list[HostProcess], generation: int = 1) -> None:
    use(pair, negotiate(pair, generation), generation)


@pytest.mark.parametrize("family", ["4", "6"])
@pytest.mark.parametrize(("program", "method"), CASES)
def test_a_tunnel_over_the_negotiated_path(program: str, method: str, family: str) -> None:
    with hosts_on_a_lan(2) as namespaces, two_hosts(namespaces, program, method, family) as pair:
        paths = negotiate(pair)
        for host, path, other in zip(pair, paths, paths[::-1], strict=True):
            address, port = path["remote"]
            assert port == 51820
            assert other["local"] == (f"[{address}]:{port}" if family == "6" else f"{address}:{port}")
            # A check may overtake the candidate that names its source.
            assert path["types"][0] == "host" and path["types"][1] in ("host", "prflx")
            assert not host.heard("event", "NegotiationFailed")
        use(pair, paths)
        ping_both_ways(pair)
        for host, path in zip(pair, paths, strict=True):
            host.order("stats")
            ((received, sent, handshake, endpoint),) = host.hear("stats")["stats"].values()
            assert received > 0 and sent > 0 and handshake
            assert endpoint == (f"[{path['remote'][0]}]:51820" if family == "6" else f"{path['remote'][0]}:51820")
            host.order("counters")
            counters = host.hear("method")
            assert counters["method"] == method
            assert counters["received"] >= 2 and counters["sent"] >= 2
            assert (counters["taken"], set(counters["ttls"])) == (0, {63})
            host.order("drop")
            dropped = host.hear("done", "drop")
            assert (dropped["agents"], dropped["routes"], dropped["transactions"]) == (0, 0, 0)
            assert dropped["tasks"] == 2  # the device's and the one that reads orders
        for host in pair:
            said = host.quit()
            assert (said["tasks"], said["left"]) == (1, [])
            assert "wt0" not in run("ip -br link", host.namespace)


@pytest.mark.parametrize(("program", "method"), CASES)
def test_stun_under_load(program: str, method: str) -> None:
    """The path is watched by STUN among gigabits of WireGuard; nothing of WireGuard's comes to Python."""
    with hosts_on_a_lan(2) as namespaces, two_hosts(namespaces, program, method) as pair:
        connect(pair)
        ping_both_ways(pair)
        server = subprocess.Popen(
            ["ip", "netns", "exec", pair[1].namespace, "iperf3", "-s", "-1", "-B", "100.64.0.2"],
            stdout=subprocess.DEVNULL,
        )
        try:
            run(
                "for i in $(seq 100); do ss -Hltn src 100.64.0.2:5201 | grep -q . && break; sleep 0.05; done",
                pair[1].namespace,
            )
            # New agents are negotiated in the middle of it.
            load = subprocess.Popen(
                ["ip", "netns", "exec", pair[0].namespace, "iperf3", "-c", "100.64.0.2", "-t", "5", "--bidir"],
                stdout=subprocess.DEVNULL,
            )
            for generation in range(2, 12):
                negotiate(pair, generation)
            assert load.wait(20) == 0
        finally:
            server.terminate()
            server.wait(5)
        for host in pair:
            assert not host.heard("event", "PathLost")
            host.order("counters")
            counters = host.hear("method")
            assert counters["taken"] == 0
            assert counters["received"] > 20


@pytest.mark.parametrize(("program", "method"), CASES)
def test_a_cut_link_is_noticed_and_a_new_agent_connects(program: str, method: str) -> None:
    with hosts_on_a_lan(2) as namespaces, two_hosts(namespaces, program, method) as pair:
        connect(pair)
        ping_both_ways(pair)
        lan = lan_of(namespaces[0])
        run("ip link set p1 down", lan)
        for host in pair:
            assert "nothing authentic" in host.hear("event", "PathLost", limit=15)["reason"]
        run("ip link set p1 up", lan)
        connect(pair, 2)
        ping_both_ways(pair)


@pytest.mark.parametrize(("program", "method"), CASES)
def test_a_killed_program_is_reported_and_its_successor_gets_the_same_port(program: str, method: str) -> None:
    with hosts_on_a_lan(2) as namespaces, two_hosts(namespaces, program, method) as pair:
        connect(pair)
        host = pair[0]
        host.order("kill")
        failed = host.hear("event", "DeviceFailed")
        assert failed["retry"] is True
        assert "signal 9" in failed["reason"]
        host.order("open")
        opened = host.hear("event", "DeviceOpened")
        # Our sockets have let go of the port in time.
        assert (opened["name"], opened["port"]) == ("wt0", 51820)
        host.order("address", address="100.64.0.1/24")
        host.hear("done", "address")
        host.order("peers", changed=[[pair[1].key, "100.64.0.2/32", None, 0]])
        host.hear("done", "peers")
        connect(pair, 2)
        # The other side still has keys of the old program; ours begins the handshake, so that does no harm.
        ping_both_ways(pair, limit=8)


@pytest.fixture
def behind_routers() -> Iterator[list[str]]:
    with hosts_behind_routers() as (hosts, middle):
        server = subprocess.Popen(
            ["ip", "netns", "exec", middle, sys.executable, "-c", textwrap.dedent(STUN_SERVER)],
            stdout=subprocess.PIPE,
        )
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield hosts
        finally:
            server.kill()
            server.communicate()


@pytest.mark.parametrize(("program", "method"), CASES)
def test_through_two_routers(program: str, method: str, behind_routers: list[str]) -> None:
    with two_hosts(behind_routers, program, method) as pair:
        said = []
        for host, other in (pair, pair[::-1]):
            host.order("credentials", peer=other.key)
            said.append(host.hear("credentials")["credentials"])
        for number, (host, other) in enumerate((pair, pair[::-1])):
            host.order(
                "negotiate",
                peer=other.key,
                theirs=said[1 - number],
                controlling=number == 0,
                stuns=[["203.0.113.100", 3478]],
            )
        for host, other in (pair, pair[::-1]):
            for kind in ("host", "srflx"):
                candidates = host.hear("event", "CandidatesGathered")["candidates"]
                assert [f" typ {kind} " in text for text in candidates] == [True]
                other.order("candidates", peer=host.key, candidates=candidates)
                other.hear("done", "candidates")
        paths = [host.hear("event", "PathSelected") for host in pair]
        assert {path["remote"][0] for path in paths} == {"203.0.113.1", "203.0.113.2"}
        assert {path["types"][0] for path in paths} == {"srflx"}
        use(pair, paths)
        ping_both_ways(pair)
