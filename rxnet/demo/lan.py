"""The demo's network: a bridge in a namespace of its own, each host in another one behind a link that can be cut.

::

    core   br0 10.77.0.1  fd77::1         control plane
            |-- p1 ==== e0 10.77.0.11  fd77::b     h1
            |-- p2 ==== e0 10.77.0.12  fd77::c     h2

Taking `p1` down takes the carrier from h1's `e0`, as pulling the cable does. The machine's own network is not touched.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rxnet.errors import DeviceError

CORE_ADDRESS: Final = "10.77.0.1"
_LIMIT: Final = 20.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a host lives."""

    number: int
    """From 1."""
    name: str
    namespace: str

    @property
    def address(self) -> str:
        return f"10.77.0.{10 + self.number}"

    @property
    def address_v6(self) -> str:
        return f"fd77::{10 + self.number:x}"

    @property
    def port(self) -> str:
        """The core's end of the host's link."""
        return f"p{self.number}"


@dataclass(frozen=True, slots=True)
class Lan:
    """The namespaces of one run; `tag` makes their names unique."""

    tag: str
    hosts: tuple[Place, ...]

    @property
    def core(self) -> str:
        return f"{self.tag}-core"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """All of them, the core's last: links go with the hosts."""
        return (*(host.namespace for host in self.hosts), self.core)

    def build(self) -> None:
        """Make the namespaces and wire them up.

        :raises DeviceError: if that is not permitted here, or fails.
        """
        try:
            ip_batch(f"netns add {name}" for name in self.namespaces)
        except DeviceError as error:
            raise DeviceError(
                f"no network namespaces here ({error}): run the demo as root outside a container, "
                "or in one that has CAP_SYS_ADMIN and CAP_NET_ADMIN"
            ) from None
        ip_batch(
            (
                "link set lo up",
                "link add br0 type bridge",
                f"addr add {CORE_ADDRESS}/24 dev br0",
                "addr add fd77::1/64 dev br0 nodad",
                "link set br0 up",
                *(line for host in self.hosts for line in _cable(host)),
            ),
            self.core,
        )
        for host in self.hosts:
            ip_batch(_host_side(host), host.namespace)

    def cut(self, host: Place) -> None:
        """Take the carrier of a host's link away."""
        ip(["-n", self.core, "link", "set", host.port, "down"])

    def heal(self, host: Place) -> None:
        """Give it back."""
        ip(["-n", self.core, "link", "set", host.port, "up"])


def plan(tag: str, hosts: int) -> Lan:
    """A LAN with that many hosts, h1 to hN."""
    return Lan(tag, tuple(Place(n, f"h{n}", f"{tag}-h{n}") for n in range(1, hosts + 1)))


def _cable(host: Place) -> Iterable[str]:
    yield f"link add {host.port} type veth peer name e0 netns {host.namespace}"
    yield f"link set {host.port} master br0 up"


def _host_side(host: Place) -> Iterable[str]:
    yield "link set lo up"
    yield f"addr add {host.address}/24 dev e0"
    yield f"addr add {host.address_v6}/64 dev e0 nodad"
    yield "link set e0 up"
    yield f"route add default via {CORE_ADDRESS}"
    yield "route add default via fd77::1"


def ip_batch(lines: Iterable[str], namespace: str | None = None) -> None:
    """Run many commands of `ip` in one process.

    :raises DeviceError: if one fails, with what `ip` says.
    """
    ip([*(("-n", namespace) if namespace else ()), "-batch", "-"], "".join(f"{line}\n" for line in lines))


def ip(arguments: Sequence[str], text: str | None = None) -> str:
    """Run `ip`; returns what it prints.

    :raises DeviceError: if it fails or hangs.
    """
    program = shutil.which("ip")
    if program is None:
        raise DeviceError("the demo needs the program ip: install the package iproute2")
    try:
        done = subprocess.run(
            [program, *arguments], input=text, capture_output=True, text=True, timeout=_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"ip {' '.join(arguments)}: {error}") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line and not line.startswith("Command failed")]
        raise DeviceError(f"ip {' '.join(arguments)}: {'; '.join(said[:2]) or f'code {done.returncode}'}")
    return done.stdout
