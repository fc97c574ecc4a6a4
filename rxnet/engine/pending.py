"""Pending work for peers: one `switch_map` of the gate, whose inner owns the keyed set of it all.

When network or signal goes away the gate closes, the inner is disposed, and with it every offer on its way, every
deadline and every agent that still looks for a path: at once, at one place. The opening starts the next inner, and
that event alone starts the peers again::

    gate     ---open(1)------------------closed---open(2)-----
    p        ---O--A--C--(path)----------|        (kept)
    q        ---O------O-----------O-----| cancelled  O--A-----
    r        ---O--A--C--C--C------------| cancelled  O--A--C--
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

import reactivex
from reactivex import Observable

from rxnet.engine.inbox import Input, Step
from rxnet.engine.offers import deadline_effect, messages_effect
from rxnet.engine.operators import PeerWork, Perform, keyed, switch
from rxnet.engine.paths import candidates_effect, negotiation_effect
from rxnet.engine.peers import touched
from rxnet.engine.state import State

PENDING: Final = (
    PeerWork(attrgetter("outbox"), messages_effect),
    PeerWork(attrgetter("next_offer"), deadline_effect),
    PeerWork(attrgetter("agent"), negotiation_effect),
    PeerWork(attrgetter("agent", "candidates"), candidates_effect),
)
"""What can be pending for a peer, one of each kind at a time."""


def pending_epic(steps: Observable[Step], perform: Perform) -> Observable[Input]:
    def project(epoch: int | None, first: Step) -> Observable[Input]:
        if epoch is None:
            return reactivex.never()
        return steps.pipe(keyed(PENDING, touched, perform, first))

    return switch(steps, _open_epoch, project)


def _open_epoch(state: State) -> int | None:
    return state.gate.epoch if state.gate.open else None
