"""The tables of models: every group of every model, as derived by hand."""

from __future__ import annotations

import pytest
from tests.cases import CASES, Case
from tests.hostile import HOSTILE
from tests.kinds import KINDS
from tests.practice import PRACTICE
from tests.programs import PROGRAMS

from scaleinv.symmetry import Symmetries, find_symmetries


def _as_derived(found: Symmetries, case: Case) -> None:
    assert found.verdict == case.verdict, found.evidence
    assert set(found.single) == set(case.single)
    assert set(found.row) == set(case.row)
    assert {frozenset(g) for g in found.joint} == {frozenset(g) for g in case.joint}
    assert {frozenset(r.items()) for r in found.rescaling} == {frozenset(r.items()) for r in case.rescaling}
    assert {frozenset(r.items()) for r in found.weighted} == {frozenset(r.items()) for r in case.weighted}
    assert set(found.dead) == set(case.dead)
    assert set(found.unreached) == set(case.unreached)
    assert set(found.fixed) == set(case.fixed)
    assert {(p.name, p.dim, p.ranges) for p in found.partial} == set(case.partial)
    if case.row_dim is not None:
        assert found.row_dim == case.row_dim


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_groups(case: Case) -> None:
    model, inputs = case.build()
    _as_derived(find_symmetries(model, inputs), case)


@pytest.mark.filterwarnings("ignore:.*reentrant")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")  # by a model that reads numbers
@pytest.mark.parametrize("case", [*KINDS, *HOSTILE, *PROGRAMS, *PRACTICE], ids=lambda c: c.name)
def test_kinds(case: Case) -> None:
    model, inputs = case.build()
    _as_derived(find_symmetries(model, inputs), case)
