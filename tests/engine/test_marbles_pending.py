"""Pending: offers, answers, deadlines, negotiations and candidates, all under one gate."""

from rxnet.engine.effects import SendMessages
from rxnet.events import EffectFailed
from rxnet.testing import cast
from rxnet.testing.drivers import Work
from rxnet.testing.marbles import MarbleRun, marbles

# -- offers ------------------------------------------------------------------------------------------------------


@marbles
def test_an_unanswered_offer_is_repeated_then_the_peer_is_silent() -> None:
    """Five offers, further and further apart, then nothing: neither a message nor a timer.

    1 char = 1 s ± 10 %

    given: ready

    > map      p----------------------------------------------------------------------
    = p        O--O-----O-----------O-----------------------O-------------------------
    = p timer  T--T-----T-----------T-------------------------------------------------
    = silent   ---------------------------------------------w-------------------------
    """


@marbles
def test_an_answer_ends_the_repeats() -> None:
    """The deadline dies with the state that it was the deadline of.

    1 char = 1 s ± 10 %

    given: ready

    > map      p------------------------
    > p        ----a--------------------
    = p        O--ON--------------------
    = p timer  T--Tx--------------------
    """


@marbles
def test_every_peer_is_offered_a_connection_when_the_gate_opens() -> None:
    """That event alone starts them all: nobody waits for a turn of a loop.

    given: up, network, login, management, device, peers pqr

    > signal  --C--
    = p       --O--
    = q       --O--
    = r       --O--
    = gate    --O--
    """


@marbles
def test_without_signal_there_is_no_offer_and_no_timer() -> None:
    """A thousand peers without signal cost nothing.

    1 char = 10 s

    given: up, network, login, management, device

    > map      -p---p------P-p-----------
    = p        --------------------------
    = p timer  --------------------------
    = silent   --------------------------
    = gate     --------------------------
    """


@marbles
def test_the_loss_of_signal_cancels_all_that_is_pending_at_once() -> None:
    """One gate, one switch: deadlines and negotiations of all peers end in that instant.

    given: ready, peers pqr

    > q        -o----------
    > signal   --X---------
    = p timer  --x---------
    = q        -An---------
    = q        -N----------
    = q timer  -x----------
    = r timer  --x---------
    = gate     --X---------
    """


@marbles
def test_the_return_of_signal_starts_the_peers_again() -> None:
    """Immediately, and with the whole schedule before them.

    1 char = 1 s ± 10 %

    given: ready, peers pq

    > p        -o---------------------------
    > signal   --X---C----------------------
    = p        -An---O--O-----O-----------O-
    = p        -N---------------------------
    = q        ------O--O-----O-----------O-
    = q timer  --x---T--T-----T-----------T-
    """


@marbles
def test_a_network_that_flaps_starts_each_peer_once_for_each_opening() -> None:
    """No offer is sent while the network is down, none twice when it is up again.

    1 char = 200 ms

    given: ready, peers p

    > network  -D--U---D--U------
    > signal   ------C------C----
    = p        ------O------O----
    = p timer  -x----T-x----T----
    """


@marbles
def test_a_peer_that_the_map_adds_is_offered_a_connection_at_once() -> None:
    """Whenever it comes.

    given: ready

    > map  -p----q--
    = p    -O--O----
    = q    ------O--
    """


@marbles
def test_a_peer_that_leaves_takes_its_pending_work_with_it() -> None:
    """Its deadline, its negotiation; others are not disturbed.

    given: ready, peers pq

    > q        -o-----
    > map      --(PQ)-
    = p        -------
    = p timer  --x----
    = q        -An----
    = q        -N-----
    = q timer  -x-----
    """


@marbles
def test_a_peer_that_is_listed_again_starts_from_the_beginning() -> None:
    """Nothing of its former life is pending.

    given: ready, peers p, connected p

    > map  --P--p-----
    = p    --k--O--O--
    """


# -- answers -----------------------------------------------------------------------------------------------------


@marbles
def test_every_offer_is_answered_exactly_once() -> None:
    """Also one that changes nothing; an answer is never answered.

    given: ready, peers p

    > p  -o--o--a--a--o--
    = p  -A--A--------A--
    = p  -N--------------
    """


@marbles
def test_crossing_offers_need_no_rule() -> None:
    """Glare: each side answers the other's offer, and one agent comes of it on each side.

    given: ready

    > map  -p-------
    > p    --o-a-s--
    = p    -OA---K--
    = p    --N------
    """


@marbles
def test_an_offer_without_ice_is_answered_and_starts_no_agent() -> None:
    """A peer that can only be relayed: what it says is noted as the reason, its repeats run out.

    1 char = 1 s ± 10 %

    given: ready

    > map  p--------
    > p    -i-------
    = p    OA-O-----
    """


@marbles
def test_a_peer_that_turns_to_relay_only_loses_agent_and_path() -> None:
    """It has given up its agent, ours has nobody to talk to. It is silent until it offers ICE again.

    given: ready, peers pq, connected p

    > p       --i-----o--s--
    > q       -o--i---------
    = p       --k-----A--K--
    = p       --A-----N-----
    = p news  --d--------c--
    = q       -A--n---------
    = q       -N--A---------
    = silent  --w-----------
    """


@marbles
def test_an_offer_of_an_old_client_is_enough_for_an_agent() -> None:
    """It has no session id; a second one changes nothing.

    given: ready, peers p

    > p  -j--j--
    = p  -A--A--
    = p  -N-----
    """


@marbles
def test_an_offer_while_the_gate_is_closed_is_answered_when_it_opens() -> None:
    """It is kept, not dropped: signal is connected before the interface is open, and peers offer at once.

    given: up, network, login, management, signal, peers p

    > p       --o---------
    > device  -----O------
    = p       -----(ONA)--
    """


# -- negotiations ------------------------------------------------------------------------------------------------


@marbles
def test_an_answer_starts_a_negotiation() -> None:
    """Our offer, its answer, our agent.

    given: ready

    > map  p-------
    > p    --a--s--
    = p    O-N--K--
    """


@marbles
def test_a_new_session_replaces_the_agent() -> None:
    """By an offer or by an answer: another agent of the peer cannot talk to ours.

    given: ready, peers p

    > p  -o--n--b--
    = p  -A--n--n--
    = p  -N--A--N--
    = p  ----N-----
    """


@marbles
def test_the_same_session_keeps_the_agent() -> None:
    """Repeats are no reason to start over: that is how two guards cancel each other for ever.

    given: ready, peers p

    > p  -o--o--a--o--
    = p  -A--A-----A--
    = p  -N-----------
    """


@marbles
def test_a_failed_negotiation_goes_on_with_the_schedule_where_it_stood() -> None:
    """A peer that answers and cannot be reached does not keep us busy: its offers run out like any other's.

    1 char = 1 s ± 10 %

    given: ready

    > map  p-------------------------------------------------------------------------------
    > p    -a----f----a--f------a---f-------------a--f-------------------------a--f--------
    = p    ON-------O-N--------ON---------------O-N--------------------------O-N-----------
    """


@marbles
def test_a_failure_of_an_older_agent_is_dropped() -> None:
    """The present one goes on.

    given: ready, peers p

    > p       -o--n-----s--
    > p late  ------fs-----
    = p       -A--n-----K--
    = p       -N--A--------
    = p       ----N--------
    """


@marbles
def test_a_negotiation_that_fails_unexpectedly_is_a_failed_one() -> None:
    """A defect of the driver costs one attempt; the next offer is due as ever.

    1 char = 1 s ± 10 %

    given: ready, peers pq

    > p  -oE-------
    = p  -A---O----
    = p  -N--------
    = q  ---O-----O
    """


# -- candidates --------------------------------------------------------------------------------------------------


@marbles
def test_our_candidates_are_signalled_as_they_are_found() -> None:
    """Before the first check leaves.

    given: ready, peers p

    > p  -o-gg--
    = p  -A-CC--
    = p  -N-----
    """


@marbles
def test_candidates_before_their_agent_are_kept_for_it() -> None:
    """A candidate that overtakes its offer: NetBird's clients drop it, we do not.

    1 char = 500 ms

    given: ready, peers p

    > p        cc-o---c--
    = p        ---A------
    = p        ---N------
    = p given  ---G---G--
    """


@marbles
def test_a_known_candidate_is_not_told_again() -> None:
    """Duplicates are the rule.

    given: ready, peers p

    > p        -o-c-r-r--
    = p given  ---G------
    """


@marbles
def test_a_candidate_signalled_again_before_a_new_offer_counts() -> None:
    """The peer came back at the same address, and its candidate overtook the offer.

    given: ready, peers p

    > p        -co----------------rn--
    = p given  --G-----------------G--
    """


@marbles
def test_candidates_of_a_former_session_are_not_given_to_the_next() -> None:
    """They may be gone, and the peer signals all of them again.

    given: ready, peers p

    > p        -oc-----------n---c--
    = p given  --G---------------G--
    """


# -- messages ----------------------------------------------------------------------------------------------------


@marbles(by_hand=True)
def test_messages_to_a_peer_leave_one_batch_after_the_other() -> None:
    """What comes while a batch is on its way waits, in order; of offers and answers only the newest.

    given: ready

    > map  p-------------
    > p    -ogo---m---m--
    = p    O------A------
    = p    -------C------
    = p    -N------------
    """


@marbles(by_hand=True)
def test_a_batch_that_signal_does_not_take_is_given_up() -> None:
    """The offer's own deadline repeats it.

    1 char = 1 s ± 10 %

    given: ready

    > map  p-----------
    > p    --x----m----
    = p    O--O-----O--
    """


@marbles(by_hand=True)
def test_messages_on_their_way_are_cancelled_with_the_gate() -> None:
    """The next opening sends what is current then, not what was.

    given: ready

    > map     p---------
    > p       -o--------
    > signal  ---X---C--
    = p       O--x---O--
    = p       -N-n------
    """


def _fail_to_send(work: Work) -> None:
    work.report(EffectFailed("SendMessages", work.effect.generation, "surprise", work.peer))


@marbles(on_start={SendMessages: _fail_to_send})
def test_a_send_that_fails_unexpectedly_is_a_batch_given_up(run: MarbleRun) -> None:
    """A defect of the driver costs each batch, not the peer: repeats and answers are tried as ever.

    1 char = 1 s ± 10 %

    given: ready

    > map   p-----------
    > p     ----------o-
    = p     O--O-----OA-
    = p     ----------N-
    = news  E--E-----EE-
    """
    assert run.state.peers[cast.key_of("p")].outbox.sending == ()
