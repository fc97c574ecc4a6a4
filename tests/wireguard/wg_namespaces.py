"""Network namespaces of the tests' own, and programs in them. Never touches the machine's own network."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator

_numbers = itertools.count()


def wireguard_programs() -> list[str]:
    """All WireGuard programs of this machine: the one that WIREGUARD_GO names and those in PATH."""
    places = [os.environ.get("WIREGUARD_GO", "")]
    places += [f"{place}/wireguard-go" for place in (*os.get_exec_path(), "/usr/bin", "/usr/local/bin")]
    found = (os.path.realpath(place) for place in places if place and os.access(place, os.X_OK))
    return list(dict.fromkeys(found))


def missing() -> str:
    """Why tests with namespaces cannot run here; empty if they can."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("ip") is None:
        return "needs iproute2"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    return ""


def run(command: str, namespace: str | None = None) -> str:
    """Run a shell command, in a namespace if one is named; its output."""
    prefix = ["ip", "netns", "exec", namespace] if namespace else []
    done = subprocess.run([*prefix, "sh", "-ec", command], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise RuntimeError(f"{command!r} in {namespace}: {done.returncode} {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def hosts_on_a_lan(count: int, prefix: str = "rxi-") -> Iterator[list[str]]:
    """`count` namespaces on a bridge in one more: host n has 10.77.0.n/24 and fd77::n/64 on `e0`; names are yielded.

    The bridge port of host n is `p<n>` in the namespace `<first>` + "lan".
    """
    tag = f"{prefix}{os.getpid()}-{next(_numbers)}"
    lan = f"{tag}-lan"
    hosts = [f"{tag}-h{n}" for n in range(1, count + 1)]
    try:
        run(f"ip netns add {lan}")
        run("ip link add br0 type bridge && ip link set br0 up && ip link set lo up", lan)
        for number, name in enumerate(hosts, 1):
            run(f"ip netns add {name}")
            run(
                f"ip link add p{number} type veth peer name e0 netns {name} && ip link set p{number} master br0 up", lan
            )
            run(
                f"ip link set lo up; ip addr add 10.77.0.{number}/24 dev e0; "
                f"ip -6 addr add fd77::{number}/64 dev e0 nodad; ip link set e0 up",
                name,
            )
        yield hosts
    finally:
        remove(*hosts, lan)


def remove(*namespaces: str) -> None:
    """End what still runs in these namespaces, and delete them."""
    for name in namespaces:
        with contextlib.suppress(RuntimeError):
            for pid in run(f"ip netns pids {name}").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
        with contextlib.suppress(RuntimeError):
            run(f"ip netns del {name}")


def lan_of(host: str) -> str:
    """The namespace that holds the bridge of a host of `hosts_on_a_lan`."""
    return host.rpartition("-")[0] + "-lan"


@contextlib.contextmanager
def hosts_behind_routers(prefix: str = "rxi-") -> Iterator[tuple[list[str], str]]:
    """Two namespaces, each behind a router that translates addresses, and the namespace in the middle.

    Host n has 192.168.n.2; its router is 203.0.113.n outside; the middle has 203.0.113.100. The routers keep ports and
    drop what nobody inside asked for (endpoint-independent mapping, address and port dependent filtering).
    """
    tag = f"{prefix}{os.getpid()}-{next(_numbers)}"
    middle = f"{tag}-lan"
    hosts = [f"{tag}-h{n}" for n in (1, 2)]
    routers = [f"{tag}-r{n}" for n in (1, 2)]
    try:
        run(f"ip netns add {middle}")
        run("ip link add br0 type bridge; ip addr add 203.0.113.100/24 dev br0; ip link set br0 up", middle)
        for number, (host, router) in enumerate(zip(hosts, routers, strict=True), 1):
            run(f"ip netns add {host}; ip netns add {router}")
            run(f"ip link add p{number} type veth peer name out netns {router}", middle)
            run(f"ip link set p{number} master br0 up", middle)
            run(
                f"ip link add in type veth peer name e0 netns {host}; sysctl -qw net.ipv4.ip_forward=1;"
                f"ip addr add 203.0.113.{number}/24 dev out; ip link set out up;"
                f"ip addr add 192.168.{number}.1/24 dev in; ip link set in up;"
                "nft 'table ip nat { chain post { type nat hook postrouting priority 100; oifname out masquerade; }; };"
                " table ip guard { chain f { type filter hook forward priority 0; iifname out ct state new drop; };"
                " chain i { type filter hook input priority 0; iifname out ct state new drop; }; }'",
                router,
            )
            run(
                f"ip link set lo up; ip addr add 192.168.{number}.2/24 dev e0; ip link set e0 up;"
                f"ip route add default via 192.168.{number}.1",
                host,
            )
        yield hosts, middle
    finally:
        remove(*hosts, *routers, middle)
