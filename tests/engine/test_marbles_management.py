"""Management: when it is dialled, when it waits, when it gives up."""

from rxnet.testing.marbles import MarbleRun, marbles


@marbles
def test_management_is_dialled_when_there_is_a_network() -> None:
    """The event that makes it possible starts it, with a login.

    > user        -U--------
    > network     ----U-----
    = management  ----L-----
    """


@marbles
def test_a_lost_stream_comes_back_without_a_login() -> None:
    """A stream that worked needs no login the next time. Full jitter, here nearly the whole interval: 1 s.

    given: ready

    > management  --X------
    = management  --wD-----
    = signal      ---------
    """


@marbles
def test_failed_attempts_back_off_further_each_time() -> None:
    """1, 1.7, 2.9, 4.9 seconds and so on up to 10; an attempt that never got to its stream logs in again.

    given: up, network

    > management  -X--X---X----X---------X------------X---
    = management  -wL-w-L-w--L-w----L----w-------L----w---
    """


@marbles
def test_the_back_off_does_not_grow_beyond_ten_seconds() -> None:
    """However often it failed.

    given: up, network

    > management  X-X--X----X------X----------X------------X------------X-----------
    = management  wLw-Lw--L-w----L-w-------L--w---------L--w---------L--w---------L-
    """


@marbles
def test_a_connection_that_lasted_starts_the_back_off_anew() -> None:
    """Ten seconds of health make the next loss the first one again.

    given: ready

    > management  -X-X---C----------X----
    = management  -wDw-D------------wD---
    """


@marbles
def test_the_server_may_ask_for_a_login() -> None:
    """It refused Sync with PermissionDenied: the next attempt logs in.

    given: ready

    > management  --I------
    = management  --wL-----
    """


@marbles
def test_a_server_that_limits_us_is_asked_after_minutes() -> None:
    """Between two and four minutes.

    1 char = 10 s

    given: ready

    > management  -S-----------------------------
    = management  -w-----------------------D-----
    """


@marbles
def test_a_refused_login_is_final_until_the_user_acts() -> None:
    """Neither time nor a network that comes back asks again: the user does.

    1 char = 1 min

    given: up, network

    > management  --R--------------
    > network     ------D--U--A----
    > user        --------------U--
    = management  --------------L--
    = signal      -----------------
    = device      -----------------
    """


@marbles
def test_a_refusal_takes_everything_down() -> None:
    """A deleted peer has no business on the network.

    given: ready, peers p, connected p

    > management  ---V----
    = signal      ---x----
    = device      ---x----
    = gate        ---X----
    = p           ---k----
    = p news      ---d----
    """


@marbles
def test_reports_of_an_older_attempt_are_dropped() -> None:
    """A cancelled driver may still have said something.

    given: ready, peers p

    > management late  --X--R--V---
    = management       ------------
    = signal           ------------
    = device           ------------
    """


@marbles
def test_a_driver_that_fails_unexpectedly_is_a_lost_stream() -> None:
    """A defect of a driver is reduced like the failure that it reports when it is expected.

    given: ready

    > management  --E------
    = management  --wD-----
    = news        --E------
    """


@marbles
def test_the_loss_of_management_touches_nothing_else() -> None:
    """The last network map is good: signal, device and peers go on.

    given: ready, peers p, connected p

    > management  --X-----
    > p           ---n----
    = signal      --------
    = device      --------
    = gate        --------
    = p           ---k----
    = p           ---A----
    = p           ---N----
    """


@marbles
def test_down_cancels_the_wait_for_the_next_attempt() -> None:
    """Nothing is left that could wake us.

    given: up, network

    > management  -X---------
    > user        ------D----
    = management  -wL---x----
    """


@marbles(jitter=0.0)
def test_full_jitter_may_wait_for_nothing_at_all(run: MarbleRun) -> None:
    """The interval is drawn from nought up.

    given: ready

    > management  -X---X--
    = management  -w---w--
    = management  -D---D--
    """
    assert run.state.management.attempt == 2
