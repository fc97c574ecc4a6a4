"""Signal: dialled when management has named it, redialled when it is lost, moved when it moves."""

from rxnet.testing.marbles import marbles


@marbles
def test_signal_is_dialled_when_its_address_is_known() -> None:
    """Management names signal's address at login; that event, and nothing else, starts the dial.

    given: up, network

    > management  ---L------
    = signal      ---D------
    """


@marbles
def test_a_lost_signal_backs_off() -> None:
    """1, 1.7, 2.9 seconds; attempts end after 2 s here.

    given: ready

    > signal  -X---X----X-------
    = signal  -wD--w-D--w--D----
    """


@marbles
def test_signal_that_lasted_starts_the_back_off_anew() -> None:
    """Ten seconds of health make the next loss the first one again.

    given: ready

    > signal  -X-X---C----------X----
    = signal  -wDw-D------------wD---
    """


@marbles
def test_signal_that_did_not_last_goes_on_backing_off() -> None:
    """A server that takes us and drops us is not hammered.

    given: ready

    > signal  -X-C-X---C-X-------
    = signal  -wD--w-D---w--D----
    """


@marbles
def test_signal_moves_when_management_names_another_server() -> None:
    """The old connection is cancelled and the new one dialled, in one instant.

    given: ready

    > management  --M------
    = signal      --x------
    = signal      --D------
    = gate        --X------
    """


@marbles
def test_signal_stays_when_management_names_the_same_server() -> None:
    """A management stream that comes back says it again.

    given: ready

    > management  --X--L-----
    = signal      -----------
    """


@marbles
def test_reports_of_an_older_connection_are_dropped() -> None:
    """The late end of a cancelled stream is not the end of the present one.

    given: ready

    > signal late  --X--X--
    = signal       --------
    = gate         --------
    """


@marbles
def test_an_unexpected_failure_is_a_lost_stream() -> None:
    """A defect of the driver costs one connection.

    given: ready

    > signal  --E------
    = signal  --wD-----
    = gate    --X------
    """


@marbles
def test_a_network_change_while_dialling_dials_anew() -> None:
    """The newer event cancels the older attempt.

    given: up, network, login

    > network  -A--A---
    > signal   ------C-
    = signal   -x--x---
    = signal   -D--D---
    """
