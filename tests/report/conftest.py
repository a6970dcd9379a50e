"""What tests of pages share."""

from __future__ import annotations

import pytest

from scaleinv.plots.drawing import Drawing


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's figures are there but stay empty: for tests of its words, which would wait for matplotlib."""
    monkeypatch.setattr(Drawing, "svg", lambda drawing: f'<svg role="img" aria-label="{drawing.stem}"></svg>')
