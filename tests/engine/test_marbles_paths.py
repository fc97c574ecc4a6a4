"""Paths: an agent that found one keeps it, outside the gate."""

from rxnet.testing.marbles import MarbleRun, marbles


@marbles
def test_a_selected_path_is_kept() -> None:
    """The keeper takes the agent over before the negotiation lets go of it: no cancelling in between.

    given: ready, peers p

    > p       -o--s-----
    = p       -A--K-----
    = p       -N--------
    = p news  ----c-----
    """


@marbles
def test_a_path_outlives_signal_and_network() -> None:
    """It is lost when nothing comes over it any more, and not before.

    given: ready, peers p, connected p

    > signal   --X-C------
    > network  -------D-U-
    = signal   --wD---x-D-
    = p        -----------
    """


@marbles
def test_a_lost_path_is_looked_for_again_at_once() -> None:
    """Under an open gate the loss itself makes the next offer.

    given: ready, peers p, connected p

    > p       --l-----
    = p       --O--O--
    = p news  --d-----
    """


@marbles
def test_a_path_lost_without_signal_is_looked_for_when_signal_is_back() -> None:
    """No offer while it cannot be sent.

    given: ready, peers p, connected p

    > p       ---l--------
    > signal  -X-----C----
    = p       -------O--O-
    = p news  ---d--------
    """


@marbles
def test_a_peer_that_leaves_the_map_loses_its_path() -> None:
    """At once, with its tunnel and its agent.

    given: ready, peers p, connected p

    > map       --P---
    = p         --k---
    = p tunnel  --x---
    = p news    --d---
    = p news    --r---
    """


@marbles
def test_another_session_of_the_peer_replaces_the_path() -> None:
    """Its old agent is gone and so is ours: one piece of work ends, the next begins, never both.

    given: ready, peers p, connected p

    > p       --n--s---
    = p       --k--K---
    = p       --A------
    = p       --N------
    = p news  --d--c---
    """


@marbles
def test_the_same_session_offered_again_changes_nothing() -> None:
    """It is answered: exactly one answer for each offer.

    given: ready, peers p, connected p

    > p       --o--o--j--
    = p       --A--A--A--
    = p news  -----------
    """


@marbles
def test_late_news_of_an_older_agent_is_dropped() -> None:
    """The path of the present agent stays.

    given: ready, peers p, connected p

    > p late  --l--f--s-S--
    = p       -------------
    = p news  -------------
    """


@marbles
def test_down_gives_every_path_up() -> None:
    """And up starts from the beginning, without anybody's help.

    given: ready, peers p, connected p

    > user    --D--U-----
    = p       --k--------
    = p news  --d--------
    = device  --x--D-----
    """


@marbles
def test_a_keeper_that_fails_unexpectedly_is_a_lost_path(run: MarbleRun) -> None:
    """A defect of the driver costs one path, once.

    given: ready, peers pq, connected pq

    > p  --E-----
    = p  --O--O--
    = q  --------
    """
    assert run.state.connected == 1
