"""The doctor's table breaks names after dots and sentences after words, in 80 columns."""

from __future__ import annotations

import io
import re

import pytest
import torch
from rich.console import Console
from torch import nn

from scaleinv import find_symmetries
from scaleinv.symmetry.render import terminal_table
from scaleinv.symmetry.wrapped import broken


class Named(nn.Module):
    """A network with names as long as those of large libraries."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.ModuleDict({"convolution": nn.Conv1d(2, 4, 3, bias=False), "normalization": nn.BatchNorm1d(4)})
        self.encoder = nn.ModuleDict({"embeddings": nn.ModuleDict({"patch_embeddings": nn.ModuleList([layer])})})
        self.classifier = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.encoder["embeddings"]["patch_embeddings"][0]
        return self.classifier(layer["normalization"](layer["convolution"](x)).relu().mean(-1))


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_word_of_the_table_is_broken(width: int) -> None:
    found = find_symmetries(Named(), torch.randn(8, 2, 9, generator=torch.Generator().manual_seed(0)))
    said = io.StringIO()
    console = Console(file=said, width=width)
    for line in terminal_table(found, lr=0.1):
        console.print(line)
    lines = said.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    words = set(re.findall(r"[A-Za-z_]{4,}", said.getvalue()))
    known = {
        "encoder",
        "embeddings",
        "patch_embeddings",
        "convolution",
        "normalization",
        "weight",
        "bias",
        "classifier",
    }
    assert known <= words
    parts = [part for name in known for part in (name[:-1], name[1:])]
    assert words & set(parts) == set()


def test_names_break_after_dots_and_stay_whole_without() -> None:
    assert broken("a.bc.def", 5) == "a.bc.\n def"
    assert broken("stages.0.weight\nbias", 40) == "stages.0.weight\nbias"
    assert broken("unbreakable", 4) == "unbreakable"
    assert broken("lr of 0.05 is high", 12) == "lr of 0.05\n is high"
    assert broken("", 4) == ""
