"""Device and addresses: the WireGuard interface is made once and stays."""

from rxnet.testing.marbles import marbles


@marbles
def test_the_interface_is_made_when_our_address_is_known() -> None:
    """Login tells it, before the first map. The address is assigned when the interface is open.

    given: up, network

    > management  --L------
    > device      -----O---
    = device      --D------
    = addresses   -----A---
    """


@marbles
def test_the_interface_stays_through_every_loss() -> None:
    """No restart: neither the network nor signal nor management takes the interface with it.

    given: ready, peers p, connected p

    > network     --D---U---A-------
    > signal      -------C----C-X---
    > management  ---------------X--
    = device      ------------------
    = addresses   ------------------
    = p           ------------------
    """


@marbles
def test_an_interface_that_dies_is_made_again() -> None:
    """It backs off: 1, 2, 4 seconds.

    given: ready, peers p

    > device  -X---X---X------O--
    = device  -wD--w-D-w---D-----
    = gate    -X--------------O--
    """


@marbles
def test_an_interface_that_cannot_be_made_is_final_until_the_user_acts() -> None:
    """No permission today means no permission in a second; signal and management go on.

    1 char = 1 min

    given: ready

    > device      --F------------
    > user        ------------U--
    = device      ------------D--
    = signal      ---------------
    = management  ---------------
    = gate        --X------------
    """


@marbles
def test_paths_go_with_the_interface_that_carried_them() -> None:
    """And every peer is offered a connection again when the next one is open.

    given: ready, peers pq, connected p

    1 char = 1 s ± 10 %

    > device    --X--O------
    = device    --wD--------
    = p         --k--O--O---
    = p news    --d---------
    = p tunnel  -----t------
    = q         -----O--O---
    """


@marbles
def test_late_reports_of_an_older_interface_are_dropped() -> None:
    """The failure of a device that was replaced says nothing about the present one.

    given: ready, peers p, connected p

    > device late  --X--F--
    = device       --------
    = p            --------
    """


@marbles
def test_an_unexpected_failure_is_tried_again() -> None:
    """A surprise is not a refusal.

    given: ready

    > device  --E------
    = device  --wD-----
    """


# -- addresses ---------------------------------------------------------------------------------------------------


@marbles
def test_another_overlay_address_is_assigned_to_the_same_interface() -> None:
    """The difference is applied: neither the interface nor a tunnel is touched.

    given: ready, peers p, connected p

    > management  --A--A---
    = addresses   --A------
    = device      ---------
    = p           ---------
    = tunnel      ---------
    """


@marbles
def test_an_interface_that_is_made_again_gets_its_address_again() -> None:
    """Addresses belong to the interface that has them.

    given: ready

    > device     -X--O--
    = addresses  ----A--
    """
