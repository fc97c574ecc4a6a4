"""The network map: applied part by part, and what peers said before it listed them."""

from rxnet.testing.marbles import MarbleRun, marbles


@marbles
def test_a_map_in_parts_is_applied_as_it_comes(run: MarbleRun) -> None:
    """No single event blocks the engine; the serial counts when the last part is there.

    given: ready

    1 char = 100 ms

    > map part  -p--q-----
    > map       ------r---
    = p         -O--------
    = q         ----O-----
    = r         ------O---
    = tunnel    -p--q-r---
    """
    assert run.state.map_serial == 3


@marbles
def test_an_early_offer_is_answered_when_the_map_lists_the_peer() -> None:
    """Signal is often faster than management: nothing of what it brought is lost.

    given: ready

    > p        -co-------
    > map      -----p----
    = p        -----O----
    = p        -----A----
    = p        -----N----
    = p given  -----G----
    """


@marbles
def test_an_early_answer_needs_no_second_offer() -> None:
    """The answer to an offer of our former life.

    given: ready

    > p    -a--------
    > map  ----p-----
    = p    ----O-----
    = p    ----N-----
    """


@marbles
def test_messages_of_keys_that_are_never_listed_do_nothing() -> None:
    """Whoever they are.

    given: ready

    > p     -ocaonbz----
    = p     ------------
    = news  ------------
    """


@marbles
def test_a_change_of_a_silent_peers_entry_starts_it_again() -> None:
    """It may be back with another address: the change is an event of the peer.

    1 char = 5 s ± 10 %

    given: ready, peers p

    > map     -------------p---------------
    = p       -OO-O----O---OOO-O----O------
    = silent  ---------w---x--------w------
    """
