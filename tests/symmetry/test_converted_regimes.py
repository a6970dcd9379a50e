"""Standard networks made scale-invariant, trained on the sphere on real images: the three regimes are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scaleinv import make_scale_invariant
from scaleinv.analysis.regime_map import verdict_of
from scaleinv.lab import models, setup
from scaleinv.lab.settings import Settings, resolve
from scaleinv.lab.train import run


@pytest.mark.slow
@pytest.mark.parametrize(("model", "elrs"), [("convnet", (3e-4, 1.5e-2, 2e-1)), ("resnet18", (3e-4, 5e-3, 1e-1))])
def test_a_converted_standard_network_has_three_regimes(
    model: str, elrs: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = []

    def standard_then_converted(name: str, **options: Any) -> torch.nn.Module:
        network = models.build_model(name, **{**options, "variant": "standard"})
        images = torch.randn(12, *options["in_shape"], generator=torch.Generator().manual_seed(0))
        converted.append(make_scale_invariant(network, images, head_norm=options["head_norm"]))
        return converted[-1]

    monkeypatch.setattr(setup, "build_model", standard_then_converted)
    settings = Settings(model=model, width=8, subset=320, batch_size=16, epochs=60, evaluation="online")
    data = settings.load()
    regimes = []
    for elr in elrs:
        folder = tmp_path / f"{elr:g}"
        run(resolve(settings, data, elr=elr, lr=None, seed=0, threads=1), data, folder)
        _, verdict = verdict_of(folder)
        regimes.append(verdict.regime)
    assert len(converted) == len(elrs)
    assert regimes == [1, 2, 3]
