"""Peers: what the WireGuard interface is told about them."""

from rxnet.testing.marbles import marbles


@marbles
def test_the_device_is_told_each_change_of_the_map() -> None:
    """Peers are configured before there is a path: the other side's handshake can find us. A new name (the second `p`)
    is nothing to the device.

    given: ready

    > map     -(pq)--p---P---
    = tunnel  -p---------P---
    = tunnel  -q-------------
    """


@marbles
def test_a_device_that_opens_is_told_all_peers() -> None:
    """Nothing is told to a device that is not open.

    given: up, network, login, management, signal

    > map     --p--q-----
    > device  -------O---
    = tunnel  -------p---
    = tunnel  -------q---
    """


@marbles
def test_the_controlling_side_starts_the_handshake() -> None:
    """We control `a` and set a keepalive with its endpoint; `p` controls us. Both starting at once cost five seconds.

    given: ready, peers ap

    > a         -o-s----
    > p         -o-s----
    = a tunnel  ---E----
    = p tunnel  ---e----
    """


@marbles
def test_the_endpoint_follows_the_path() -> None:
    """Another pair is another endpoint; without a path there is none.

    given: ready, peers a, connected a

    > a         --S---l---
    = a tunnel  --E---t---
    """


@marbles
def test_a_peer_that_is_a_new_process_is_configured_afresh() -> None:
    """Its WireGuard has lost our keys and would ignore us until ours expire.

    given: ready, peers a, connected a

    > a         --N-s---
    = a tunnel  --r-E---
    """


@marbles
def test_a_new_session_of_the_same_process_keeps_its_keys() -> None:
    """Its agent is another one, its WireGuard is not.

    given: ready, peers a, connected a

    > a         --n-s---
    = a tunnel  --t-E---
    """


@marbles
def test_the_loss_of_signal_tells_the_device_nothing() -> None:
    """Tunnels outlive the control plane.

    given: ready, peers ap, connected ap

    > signal   --X--------
    > network  ----D---U--
    = tunnel   -----------
    """
