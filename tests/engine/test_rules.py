"""The rules of the engine hold."""

from __future__ import annotations

from collections.abc import Callable

import engine_rules
import pytest


@pytest.mark.parametrize(
    "check", (*engine_rules.BENCH_CHECKS, *engine_rules.FEED_CHECKS), ids=lambda check: check.__name__
)
def test_rule(check: Callable[[], object]) -> None:
    check()
