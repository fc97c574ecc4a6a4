"""A path is not an answer: the example waits for WireGuard's handshake."""

from __future__ import annotations

import asyncio
import runpy
import sys
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path

import pytest
from immutables import Map

import rxnet
from rxnet.drivers import PeerStats
from rxnet.engine.state import Peer, State
from rxnet.model import Endpoint, PeerKey, RemotePeer
from rxnet.model import Path as IcePath

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KEY = PeerKey("A" * 43 + "=")
REMOTE = RemotePeer(KEY, (ip_network("100.64.0.2/32"),), "db.example")
CONNECTED = Peer(REMOTE, 0.0, path=IcePath(Endpoint("10.0.0.2", 1), Endpoint("10.0.0.3", 1)))


class Client:
    """A client with a path to one peer, whose handshake comes with the third look, or never."""

    handshake_at_look: float = 3

    def __init__(self, config: object) -> None:
        self.looks = 0

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def wait_for(self, condition: Callable[[State], bool]) -> State:
        state = State(PeerKey("B" * 43 + "="), peers=Map({KEY: CONNECTED}))
        if not condition(state):
            await asyncio.Event().wait()
        return state

    async def statistics(self) -> Mapping[PeerKey, PeerStats]:
        self.looks += 1
        return {KEY: PeerStats(last_handshake=1.0 if self.looks >= self.handshake_at_look else None)}


@pytest.mark.parametrize(
    ("name", "look", "code", "out", "err"),
    [
        ("db", 3, 0, "db answers at 100.64.0.2\n", ""),
        ("db", float("inf"), 1, "", "db did not answer within 0.5 s\n"),
        ("web", 1, 1, "", "web did not answer within 0.5 s\n"),
    ],
)
def test_it_waits_for_the_handshake(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    look: float,
    code: int,
    out: str,
    err: str,
) -> None:
    monkeypatch.setattr(Client, "handshake_at_look", look)
    monkeypatch.setattr(rxnet, "Client", Client, raising=False)
    monkeypatch.setattr(sys, "argv", ["wait_for_peer.py", name, "0.5"])
    monkeypatch.setenv("RXNET_MANAGEMENT_URL", "http://192.0.2.1:80")
    monkeypatch.setenv("RXNET_DIRECTORY", str(tmp_path / "example"))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / "wait_for_peer.py"), run_name="__main__")
    assert ended.value.code == code
    assert capsys.readouterr() == (out, err)
