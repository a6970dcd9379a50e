"""What tests of engines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.often import environment

from scaleinv.lab.launch import polled


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine is asked at once, and its folders are looked at at once."""
    monkeypatch.setattr(polled, "POLL", 0.01)
    monkeypatch.setattr(polled, "ASK", 0.01)


@pytest.fixture(scope="module")
def often() -> Iterator[None]:
    """Every process that the tests of a module start is such a one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        yield
