"""What tests of engines share."""

import pytest

from scaleinv.lab.launch import polled


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine is asked at once, and its folders are looked at at once."""
    monkeypatch.setattr(polled, "POLL", 0.01)
    monkeypatch.setattr(polled, "ASK", 0.01)
