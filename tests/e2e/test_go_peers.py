"""rxnet beside NetBird's Go client, on NetBird's own server and on ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from e2e_network import URL, EmbeddedPlane, Host, NetBirdPlane, Network, Process, run, until

pytestmark = pytest.mark.netbird


@pytest.fixture
def go(net: Network) -> GoPeer:
    if not os.environ.get("RXNET_NB_CLIENT"):
        pytest.skip("RXNET_NB_CLIENT does not name NetBird's Go client")
    return GoPeer(net.host("go"))


class GoPeer:
    """A Go daemon with an /etc of its own: it writes to resolv.conf and to the configuration of SSH."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._program = os.environ["RXNET_NB_CLIENT"]
        self._home = host.directory
        self._etc = Path("/etc/netns") / host.namespace
        (self._etc / "ssh").mkdir(parents=True)
        (self._etc / "resolv.conf").write_text("nameserver 10.99.0.1\n")

    def up(self, key: str) -> None:
        home = str(self._home)
        socket = f"unix://{home}/nb.sock"
        variables = {"HOME": home, "XDG_CONFIG_HOME": home, "NB_STATE_DIR": home, "NB_DISABLE_SSH_CONFIG": "true"}
        daemon = (self._program, "service", "run", "--daemon-addr", socket, "--log-file", "console")
        config = ("--config", f"{home}/config.json")
        process = Process(self.host.namespace, self._home / "log", *daemon, *config, env=variables)
        self.host.network.processes.append(process)
        until("the Go daemon listens", lambda: (self._home / "nb.sock").exists())
        command = (self._program, "up", "--daemon-addr", socket, "-m", URL, "-k", key, "-n", "go-peer")
        run(*command, "--interface-name", "wt0", "--disable-dns", namespace=self.host.namespace)

    def address(self) -> str:
        shown = run("ip", "-4", "-o", "addr", "show", "wt0", namespace=self.host.namespace, check=False)
        return shown.split()[3].split("/")[0] if shown else ""

    def close(self) -> None:
        for file in (self._etc / "resolv.conf",):
            file.unlink(missing_ok=True)
        (self._etc / "ssh").rmdir()
        self._etc.rmdir()


@pytest.mark.parametrize("first", ["rxnet", "go"])
def test_rxnet_and_go_ping_each_other(
    net: Network, plane: EmbeddedPlane | NetBirdPlane, go: GoPeer, first: str
) -> None:
    a = net.host("a")
    try:
        if first == "rxnet":
            a.up(key=plane.key)
            a.overlay()
            go.up(plane.key)
        else:
            go.up(plane.key)
            a.up(key=plane.key)
        address = until("the Go peer has an address", go.address)
        a.reaches(address, 20)
        go.host.reaches(a.overlay()[0])
        peer = a.status()["peers"]["details"][0]
        assert peer["status"] == "Connected"
        assert peer["connectionType"] == "P2P"
    finally:
        go.close()
