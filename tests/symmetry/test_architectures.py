"""No wrong "clear" on some seventy architectures: scaling and differences, with none of the doctor's own code."""

from __future__ import annotations

import pytest
import torch
from benchmarks.architectures import ARCHITECTURES, Architecture
from benchmarks.doctor import Twin, check, claims, holds, holds_up_to_eps, null_space
from benchmarks.doctor_page import page
from torch import nn

from scaleinv.symmetry import find_symmetries

#: one of each library, quick enough for every run
_QUICK = {"nGPT", "GPT-2", "Llama"}


def _checked(architecture: Architecture) -> None:
    if architecture.library in ("timm", "transformers"):
        pytest.importorskip(architecture.library) if architecture.library == "transformers" else None
        if architecture.library == "timm":
            from tests.timm_alone import load_timm

            load_timm()
    found = check(architecture)
    assert found.error == ""
    assert found.verdict in ("clear", "undecided")
    if found.verdict == "clear":
        assert found.wrong == []
        assert not found.dropped > 0.1 * found.kept, (found.kept, found.dropped)
        # claims that hold are there, though differences across a kink may hide one of them
        assert found.measured <= found.dimensions, (found.kept, found.dropped)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_every_architecture(architecture: Architecture) -> None:
    _checked(architecture)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a.name in _QUICK], ids=lambda a: a.name)
def test_one_of_each_library(architecture: Architecture) -> None:
    _checked(architecture)


def test_the_check_sees_a_false_claim_and_a_missing_one() -> None:
    """A check that cannot fail is none: claims that are not true, and an answer that lacks one."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 6, bias=False), nn.LayerNorm(6))
    x = torch.randn(12, 5)
    found = find_symmetries(net, x, defect=False)
    twin = Twin(net, x)
    assert all(holds_up_to_eps(twin, one, two) for _, one, two in claims(found, twin))
    single = next(claim for claim in claims(found, twin) if claim[0] == "0.weight")
    assert not holds(twin, single[1], single[2])  # eps is seen
    twin.tiny_eps()
    assert all(holds(twin, one, two) for _, one, two in claims(found, twin))
    for name in ("1.weight", "4.bias"):  # tanh and the output see them
        pair = (lambda c, n=name: {n: c}, lambda c, n=name: {n: 2 * c})
        assert not holds(twin, *pair)
        assert not holds_up_to_eps(twin, *pair)
    dimension, kept, dropped = null_space(twin, found)
    assert dimension == len(found.single) + len(found.joint) + len(found.rescaling) + len(found.dead) == 3
    assert kept > 1e-3
    assert not dropped > 1e-8


def test_the_page_says_what_is_wrong() -> None:
    entry = {
        "name": "nGPT", "library": "here", "tensors": 2, "verdict": "clear", "headline": "one of 2 tensors",
        "claims": 1, "wrong": ["a.1"], "dimensions": 1, "measured": 1, "kept": 0.1, "dropped": 1e-12, "seconds": 1.0,
        "answer": {"single": ["a.1", "a.2"], "row": ["a.1", "a.2"], "joint": [], "partial": [], "dead": [], "fixed": [],
                   "rescaling": [{"b.1": 1, "c.1": -1}]},
    }  # fmt: skip
    text = page([entry])
    assert "1 architectures: 1 clear, 1 of them wrong" in text
    assert "| nGPT | 2 | 2 | 0 | 1 | 0 | 0 | **no** |" in text
    assert "- **alone**: `a.*`, slice by slice (2 times)" in text
    assert "- **rescaling**: `b.*` up, `c.*` down" in text
