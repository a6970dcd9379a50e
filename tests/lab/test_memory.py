"""What a network needs is known before it is built."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from scaleinv.cli import run
from scaleinv.errors import UserError
from scaleinv.lab.memory import needed_numbers
from scaleinv.lab.models import MODELS, build_model
from scaleinv.lab.models.layers import NORMS
from scaleinv.runfolder import memory


@pytest.mark.parametrize(("model", "norm"), list(itertools.product(MODELS, NORMS)))
def test_the_numbers_of_weights_and_activations_are_exact(model: str, norm: str) -> None:
    shape, classes, width = (1, 8, 8), 10, 12
    net = build_model(
        model, in_shape=shape, classes=classes, width=width, norm=norm, generator=torch.Generator().manual_seed(0)
    )
    kept = []
    for layer in net.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda _, __, output: kept.append(output[0].numel()))
    net(torch.zeros(2, *shape))
    weights = sum(p.numel() for p in net.parameters())
    assert needed_numbers(model, "si", norm, width, shape, classes) == (weights, sum(kept))


def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 5 * 10**9)
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--elr", "1", "--model", "mlp", "--width", "30000", "--steps", "1", "--out", "a"]) == 2
    said = capsys.readouterr().err
    # three matrices of 64, 30000 and 30000 rows and the head, four times, and the activations
    assert "mlp of width 30000 with batches of 16 needs 29 GB, 5.0 GB are free; take a smaller --width" in said
    assert run(["sweep", "--elr", "1,2", "--model", "mlp", "--width", "12000", "--workers", "2", "--out", "b"]) == 2
    assert "2 runs at a time, needs 9.3 GB, 5.0 GB are free; take a smaller --width" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert run(["doctor", "x.py:make", "--input", "1000,1000,400"]) == 2
    assert "an input of 4e+08 numbers needs 16 GB, 5.0 GB are free" in capsys.readouterr().err
    assert run(["toy", "--seeds", "100000", "--elr", "0.1:1:100", "--steps", "200"]) == 2
    assert "100 ELRs, 100000 seeds, 5 groups needs" in capsys.readouterr().err


def test_memory_that_is_free_is_counted() -> None:
    free = memory.free_memory()
    assert free is None or 0 < free < 2**50
    memory.require(1, "a byte", "")
    with pytest.raises(UserError, match="GB are free; stop"):
        memory.require(2**60, "an exbibyte", "stop")
