"""The shared run definitions: they say what their names promise, and are runs the lab accepts."""

import pytest

from scaleinv.errors import UserError
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.papers.lobacheva2021 import runs as periods
from scaleinv.studies.obtain import Request

SCALES = ("digits", "mnist", "cifar-tiny", "cifar-small", "paper")


def product(request: Request) -> float:
    return request.lr * request.settings.weight_decay


@pytest.mark.parametrize("scale", SCALES)
def test_products(scale):
    backbone = periods.rates(scale)
    assert max(map(product, backbone)) / min(map(product, backbone)) == pytest.approx(8)
    there, other = periods.same_product(scale)
    assert all(request in backbone for request in there)
    assert [product(r) for r in other] == pytest.approx([product(r) for r in there])
    assert there[0].lr >= 5 * other[0].lr
    assert product(periods.large(scale)[0]) > 10 * max(map(product, backbone))
    units = product(periods.small(scale)) * periods.small(scale).settings.steps
    assert units < 0.5 * product(backbone[0]) * backbone[0].settings.steps
    assert all(request in backbone for request in periods.kept(scale))
    assert all(request.settings.keep_every for request in periods.kept(scale))
    momentum = periods.variations(scale)["momentum 0.9"]
    assert momentum.lr / (1 - 0.9) == pytest.approx(there[0].lr)


def test_the_warm_up_has_eight_seeds_and_shares_two():
    runs = periods.warm_up("digits")
    assert [r.seed for r in runs] == list(range(8))
    assert runs[:2] == periods.same_product("digits")[1]
    assert periods.warm_up("digits", seeds=2) == runs[:2]


def test_the_lab_accepts_them():
    data = load_data(periods.base("digits"))
    wanted = [*periods.rates("digits"), *periods.same_product("digits")[1], *periods.large("digits")]
    wanted += [periods.small("digits"), *periods.spheres("digits")]
    wanted += [request for several in periods.fixed_norm("digits", 4e-3, 8e-3).values() for request in several]
    wanted += [*periods.resting("digits"), *periods.variations("digits").values()]
    names = {resolve(r.settings, data, elr=r.elr, lr=r.lr, seed=r.seed, threads=1).identity() for r in wanted}
    assert len(names) == len(wanted)


@pytest.mark.parametrize("scale", SCALES)
def test_norms_are_fixed_off_the_boundary_and_long_enough_to_tell(scale):
    by_elr = periods.fixed_norm(scale, 2e-3, 4e-3)
    assert list(by_elr) == [5e-4, 1.6e-2]
    for elr, requests in by_elr.items():
        assert len({r.seed for r in requests}) == len(requests) >= (2 if scale == "digits" else 3)
        for r in requests:
            assert r.settings.fix_norm
            assert r.lr / r.settings.norm**2 == pytest.approx(elr, rel=1e-5)
            assert product(r) * r.settings.steps >= 2  # shorter ones are "not yet", which decides nothing


def test_an_unknown_scale_is_refused():
    with pytest.raises(UserError, match="scale 'toy'"):
        periods.rates("toy")
