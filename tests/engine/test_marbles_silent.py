"""Silence: peers whose offers are exhausted, and the one round for all of them."""

from rxnet.testing.marbles import MarbleRun, marbles


@marbles
def test_silent_peers_get_one_offer_each_every_quarter_of_an_hour(run: MarbleRun) -> None:
    """All in one instant, from one timer.

    1 char = 1 min ± 10 %

    given: ready, peers pq, silence

    > p       ---------------------------------
    = p       ---------------O--------------O--
    = q       ---------------O--------------O--
    = silent  ---------------w--------------w--
    """
    assert set(run.state.silent) == set(run.state.peers)


@marbles
def test_an_offer_wakes_a_silent_peer() -> None:
    """It is answered at once; the round is called off when nobody is silent any more.

    1 char = 1 min

    given: ready, peers p, silence

    > p       --o-s-------------------
    = p       --A-K-------------------
    = p       --N---------------------
    = silent  --x---------------------
    """


@marbles
def test_an_answer_to_the_round_is_enough() -> None:
    """One offer, one answer, a path; the others stay silent.

    1 char = 1 min

    given: ready, peers pq, silence

    > p       ----------------as--------
    = p       ---------------ONK--------
    = q       ---------------O----------
    = silent  ---------------w----------
    """


@marbles
def test_a_peer_that_fails_while_silent_is_silent_again() -> None:
    """One that answers each round and cannot be reached costs one negotiation a round.

    1 char = 1 min

    given: ready, peers p, silence

    > p       ----------------af----------
    = p       ---------------ON-----------
    = silent  ---------------wxw----------
    """


@marbles
def test_an_opening_of_the_gate_ends_all_silence() -> None:
    """Signal or network came back: that may have changed everybody's lot.

    1 char = 1 s ± 10 %

    given: ready, peers pq, silence

    > signal  -X---C----------
    = p       -----O--O-----O-
    = q       -----O--O-----O-
    = silent  -x--------------
    """


@marbles
def test_the_round_dies_with_the_last_silent_peer() -> None:
    """No timer without an owner.

    1 char = 1 min

    given: ready, peers pq, silence

    > map     --P--Q------------
    = silent  -----x------------
    """


@marbles
def test_the_round_dies_with_the_gate() -> None:
    """Nobody is to be offered anything while nothing can be sent.

    1 char = 1 min

    given: ready, peers pq, silence

    > network  --D----------------
    = silent   --x----------------
    = p        -------------------
    """
