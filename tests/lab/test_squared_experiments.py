"""The run definitions of squared loss, groups, cosines and conventional training are what they say, at every scale."""

from __future__ import annotations

import pytest

from scaleinv.errors import UserError
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.schedule import parse_schedule
from scaleinv.papers.kodryan2022 import equal_ess as groups
from scaleinv.papers.kodryan2022 import runs_conventional as conventional
from scaleinv.papers.nakhodnov2022 import runs as cosine
from scaleinv.papers.nakhodnov2022 import runs as squared

SCALES = ("digits", "mnist", "cifar-small", "paper")


@pytest.mark.parametrize("scale", SCALES)
def test_squared(scale):
    full, small = squared.full(scale), squared.small(scale)
    assert {r.settings.loss for r in (*full, *small)} == {"mse"}
    assert full[0].settings.subset is None
    assert small[0].settings.subset
    assert full[0].settings.width == small[0].settings.width
    turned = squared.with_head(full, 2 * full[0].settings.head_norm)
    assert [r.elr for r in turned] == pytest.approx([r.elr / 4 for r in full], rel=5e-3)
    assert turned[0].settings.head_norm == 2 * full[0].settings.head_norm


@pytest.mark.parametrize("scale", SCALES)
def test_others(scale):
    assert all(r.settings.record_steps for r in groups.runs(scale, "convnet", groups.elrs(scale, "convnet")))
    assert [r.elr for r in cosine.runs(scale)] == sorted({r.elr for r in cosine.runs(scale)})
    for name, of in conventional.pair(scale, (0, 1)).items():
        assert [f"{r.settings.variant} lr {r.lr:g}" for r in of] == [name] * 2
    for name, of in conventional.schedules(scale, (0, 1)).items():
        assert name.endswith(f"from {of[0].elr:g}")
        assert [r.seed for r in of] == [0, 1]
        assert 0 <= parse_schedule(of[0].settings.schedule)(0.9) <= 1
    ends = {of[0].elr * parse_schedule(of[0].settings.schedule)(0.9)
            for name, of in conventional.schedules(scale, (0,)).items() if name.startswith("two-stage")}  # fmt: skip
    assert max(ends) == pytest.approx(min(ends))


def test_the_lab_accepts_them():
    data = load_data(squared.full("digits")[0].settings)
    wanted = [*squared.full("digits"), *cosine.runs("digits"), *groups.runs("digits", "mlp", (1e-3,))]
    wanted += [r for of in conventional.pair("digits", (0,)).values() for r in of]
    wanted += [r for of in conventional.schedules("digits", (0,)).values() for r in of]
    names = set()
    for r in wanted:
        own = load_data(r.settings) if r.settings.label_noise or r.settings.subset else data
        names.add(resolve(r.settings, own, elr=r.elr, lr=r.lr, seed=r.seed, threads=1).identity())
    assert len(names) == len(wanted)


@pytest.mark.parametrize("module", [squared.full, cosine.runs], ids=["squared", "cosine"])
def test_an_unknown_scale_is_refused(module):
    with pytest.raises(UserError, match="there are: digits"):
        module("toy")


def test_other_unknown_scales_are_refused():
    with pytest.raises(UserError, match="no pairs"):
        conventional.pair("toy", (0,))
    with pytest.raises(UserError, match="no schedules"):
        conventional.schedules("toy", (0,))
    with pytest.raises(UserError, match="no runs with groups"):
        groups.elrs("toy", "mlp")
