"""What all tests share: no proxy of the developer's environment comes between a test and its own servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from connect_proxy import forget_proxies


@pytest.fixture(scope="session", autouse=True)
def no_proxies() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        forget_proxies(patch)
        yield
