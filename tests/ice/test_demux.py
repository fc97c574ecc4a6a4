"""Who gets a message."""

from __future__ import annotations

from aioice import stun

from rxnet.ice.demux import Demux
from rxnet.ice.packets import Address


class Someone:
    def __init__(self, remote_ufrag: str, *locals: str) -> None:
        self.remote_ufrag = remote_ufrag
        self.locals = locals
        self.taken: list[tuple[Address, str]] = []

    def take_request(self, message: bytes, source: Address, local: str) -> bool:
        if local not in self.locals:
            return False
        self.taken.append((source, local))
        return True


def request(user: str, kind: stun.Class = stun.Class.REQUEST) -> bytes:
    return bytes(stun.Message(stun.Method.BINDING, kind, attributes={"USERNAME": user} if user else {}))


SOURCE = ("192.0.2.1", 7)


def test_requests_go_by_user_fragment_and_local_address() -> None:
    demux = Demux()
    one, two = Someone("peer1", "10.0.0.1"), Someone("peer2", "10.0.0.1", "fd00::1")
    demux.register("ours1", one)
    demux.register("ours2", two)
    demux.dispatch(request("ours1:peer1"), SOURCE, "10.0.0.1")
    demux.dispatch(request("ours2:peer2"), SOURCE, "fd00::1")
    assert (one.taken, two.taken) == ([(SOURCE, "10.0.0.1")], [(SOURCE, "fd00::1")])
    assert demux.counters.dropped == 0
    for strange in ("ours1:peer1", "ours3:peer1", "ours1:peer2", "ours1", ":", ""):
        demux.dispatch(request(strange), SOURCE, "fd00::1")
    demux.dispatch(request("ours1:peer1", stun.Class.INDICATION), SOURCE, "10.0.0.1")
    assert (demux.counters.dropped, demux.counters.stun_received) == (7, 9)
    assert len(one.taken) == 1


def test_the_newest_agent_of_a_peer_is_asked_first() -> None:
    demux = Demux()
    old, new, other_life = Someone("peer", "10.0.0.1"), Someone("peer", "10.0.0.1"), Someone("before", "10.0.0.1")
    for agent in (old, new, other_life):
        demux.register("ours", agent)
    demux.dispatch(request("ours:peer"), SOURCE, "10.0.0.1")
    assert (len(old.taken), len(new.taken), len(other_life.taken)) == (0, 1, 0)
    demux.unregister("ours", new)
    demux.unregister("ours", new)
    demux.dispatch(request("ours:peer"), SOURCE, "10.0.0.1")
    demux.dispatch(request("ours:before"), SOURCE, "10.0.0.1")
    assert (len(old.taken), len(new.taken), len(other_life.taken)) == (1, 1, 1)
    demux.unregister("ours", old)
    demux.unregister("ours", other_life)
    demux.unregister("nobody", old)
    assert len(demux) == 0


def test_answers_go_by_transaction() -> None:
    demux = Demux()
    answers: list[Address] = []
    for kind in (stun.Class.RESPONSE, stun.Class.ERROR):
        message = stun.Message(stun.Method.BINDING, kind)
        demux.transactions[message.transaction_id] = lambda data, source: answers.append(source)
        demux.dispatch(bytes(message), SOURCE, "10.0.0.1")
    demux.dispatch(bytes(stun.Message(stun.Method.BINDING, stun.Class.RESPONSE)), SOURCE, "10.0.0.1")
    assert answers == [SOURCE, SOURCE]
    assert demux.counters.dropped == 1
