"""The table of models: every group of every model, as derived by hand."""

from __future__ import annotations

import pytest
from tests.cases import CASES, Case

from scaleinv.symmetry import find_symmetries


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_groups(case: Case) -> None:
    model, inputs = case.build()
    found = find_symmetries(model, inputs)
    assert found.verdict == "clear", found.evidence
    assert set(found.single) == set(case.single)
    assert set(found.row) == set(case.row)
    assert {frozenset(g) for g in found.joint} == {frozenset(g) for g in case.joint}
    assert {frozenset(r.items()) for r in found.rescaling} == {frozenset(r.items()) for r in case.rescaling}
    assert set(found.dead) == set(case.dead)
    assert set(found.fixed) == set(case.fixed)
    assert {(p.name, p.dim, p.ranges) for p in found.partial} == set(case.partial)
