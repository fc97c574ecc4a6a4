"""News: what those who watch are told. Nothing in the engine depends on it."""

from rxnet.events import CommandTaken, OffersCancelled, OffersStarted, PeerConnected, PeerDisconnected
from rxnet.testing.marbles import MarbleRun, marbles


@marbles
def test_a_peer_is_added_connected_disconnected_and_removed(run: MarbleRun) -> None:
    """Each once, with its name and, where it ends, the reason.

    given: ready

    > map     -p----------P--
    > p       ---o-s--l------
    = p news  -a---c--d---r--
    """
    lost = next(event for event in run.bench.events if isinstance(event, PeerDisconnected))
    assert lost.reason == "nothing came for 6 s"
    assert lost.fqdn == "p.example"


@marbles
def test_a_connected_peer_that_is_removed_is_disconnected_first() -> None:
    """Whoever counts connections by the news comes out even.

    given: ready, peers p, connected p

    > map     --P--
    = p news  --d--
    = p news  --r--
    """


@marbles
def test_another_pair_is_news(run: MarbleRun) -> None:
    """The connection stays, its path is another one.

    given: ready, peers p, connected p

    > p       --S--S--
    = p news  --c--c--
    """
    ports = [event.path.remote.port for event in run.bench.events if isinstance(event, PeerConnected)]
    assert ports == [50001, 50002, 50003]
    assert [peer.since for peer in run.state.peers.values()] == [0.0], "connected since then, whatever the pair"


@marbles
def test_the_gate_is_news(run: MarbleRun) -> None:
    """How many peers its closing and its opening concern.

    given: ready, peers pqr, connected p

    > signal  -X---C---
    = news    -X---S---
    """
    (cancelled,) = [event for event in run.bench.events if isinstance(event, OffersCancelled)]
    assert cancelled == OffersCancelled(2, "signal is not connected")
    assert [event.count for event in run.bench.events if isinstance(event, OffersStarted)] == [0, 2]


@marbles
def test_an_address_that_changes_under_an_open_gate_cancels_and_starts() -> None:
    """Both in one instant.

    given: ready, peers pq

    > network  --B--
    = news     --X--
    = news     --S--
    """


@marbles
def test_commands_are_answered(run: MarbleRun) -> None:
    """Also one that changes nothing; the answer carries the command's id.

    > user  -U--U--D--D--
    = news  -C--C--C--C--
    """
    assert [event.id for event in run.bench.events if isinstance(event, CommandTaken)] == ["1", "2", "3", "4"]


@marbles
def test_down_disconnects_everybody(run: MarbleRun) -> None:
    """The news of each, and the command's answer.

    given: ready, peers apq, connected aq

    > user    --D--
    = a news  --d--
    = p news  -----
    = q news  --d--
    = news    --X--
    = news    --C--
    """
    reasons = {event.reason for event in run.bench.events if isinstance(event, PeerDisconnected)}
    assert reasons == {"stopped"}


@marbles
def test_the_interface_that_fails_disconnects_everybody(run: MarbleRun) -> None:
    """Each with the reason.

    given: ready, peers ap, connected ap

    > device  --F--
    = a news  --d--
    = p news  --d--
    = news    --X--
    """
    reasons = {event.reason for event in run.bench.events if isinstance(event, PeerDisconnected)}
    assert reasons == {"the WireGuard interface failed"}


@marbles
def test_the_loss_of_signal_disconnects_nobody() -> None:
    """Paths outlive it.

    given: ready, peers ap, connected ap

    > signal   --X-----
    > network  ----D---
    = a news   --------
    = p news   --------
    """
