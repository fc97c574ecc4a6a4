"""Fixtures of the end-to-end tests: a network, and each control plane that there is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_network import EmbeddedPlane, NetBirdPlane, Network, missing, network

_count = itertools.count()


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with network(tmp_path, f"rxe{os.getpid()}x{next(_count)}") as made:
        yield made


@pytest.fixture(
    params=[
        pytest.param(EmbeddedPlane, id="embedded", marks=pytest.mark.netns),
        pytest.param(NetBirdPlane, id="netbird", marks=pytest.mark.netbird),
    ]
)
def plane(request: pytest.FixtureRequest, net: Network) -> EmbeddedPlane | NetBirdPlane:
    if request.param is NetBirdPlane and not os.environ.get("RXNET_NB_SERVER"):
        pytest.skip("RXNET_NB_SERVER does not name NetBird's combined server")
    made: EmbeddedPlane | NetBirdPlane = request.param(net)
    return made
