"""Network: the host's own network, and what its changes start and stop."""

from rxnet.testing.marbles import marbles


@marbles
def test_the_network_is_watched_while_we_are_wanted() -> None:
    """Nothing is watched before the user asks, nothing is left when the user asks to stop.

    > user     --U-----D---
    = network  --W-----x---
    = news     --C-----C---
    """


@marbles
def test_without_a_network_nothing_is_dialled() -> None:
    """A host that starts without network: no attempt, no back-off, until the network is there.

    > user        -U-----------
    > network     --D-----U----
    = management  --------L----
    = signal      -------------
    """


@marbles
def test_a_lost_network_cancels_every_connection_at_once() -> None:
    """Its return dials at once: back-off is for servers that are lost, not for our own link.

    given: ready, peers p

    > network     --D----U-----
    = management  --x----D-----
    = signal      --x----D-----
    = device      -------------
    = gate        --X----------
    """


@marbles
def test_a_flapping_network_is_followed_without_delay() -> None:
    """Every leading edge acts; nothing piles up.

    1 char = 100 ms

    given: ready

    > network     -D-U-D-U-D-U--
    = management  -x-D-x-D-x-D--
    = signal      -x-D-x-D-x-D--
    """


@marbles
def test_another_address_dials_management_and_signal_anew() -> None:
    """TCP may sleep for seconds before it notices: what was idle over such a change is not trusted.

    given: ready, peers p, connected p

    > network     --A-----
    > signal      -----C--
    = management  --x-----
    = management  --D-----
    = signal      --x-----
    = signal      --D-----
    = gate        --X--O--
    = device      --------
    = p           --------
    """


@marbles
def test_an_additional_address_keeps_connections_and_starts_pending_work_anew() -> None:
    """What the servers see of us is as before, but agents that look for a path do not know the new address.

    given: ready, peers p

    > p           -o--------
    > network     ----B-----
    = management  ----------
    = signal      ----------
    = gate        ----O-----
    = p           -A--n-----
    = p           -N--O--O--
    """


@marbles
def test_a_network_change_ends_a_back_off() -> None:
    """An attempt that waits for its turn is made at once when the network is another one.

    1 char = 200 ms

    given: ready

    > signal   -X-------
    > network  ---A-----
    = signal   -w-x-----
    = signal   ---D-----
    """


@marbles
def test_a_netlink_overrun_changes_nothing_by_itself() -> None:
    """The driver reads the state anew; a difference is an event of its own.

    given: ready, peers p, connected p

    > network     --O---
    = management  ------
    = signal      ------
    = p           ------
    = gate        ------
    """


@marbles
def test_a_watch_that_fails_is_started_again() -> None:
    """The last picture of the network stays: nothing is torn down for a defect of a driver.

    given: ready, peers p, connected p

    > network     --E---A---
    = network     --wW------
    = management  ------x---
    = management  ------D---
    = p           ----------
    """


@marbles
def test_the_late_failure_of_an_older_watch_is_dropped() -> None:
    """The present one goes on.

    given: ready

    > network       --E---A---
    > network late  ----E-----
    = network       --wW------
    """
