"""The shared run definitions: they say what their names promise, and are runs the lab accepts."""

import pytest

from scaleinv.errors import UserError
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.papers.lobacheva2021 import runs as periods
from scaleinv.studies.obtain import Request

SCALES = ("digits", "mnist", "cifar-small", "paper")


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
    wanted += [periods.small("digits"), *periods.fixed_norm("digits"), *periods.spheres("digits")]
    wanted += [*periods.resting("digits"), *periods.variations("digits").values()]
    names = {resolve(r.settings, data, elr=r.elr, lr=r.lr, seed=r.seed, threads=1).identity() for r in wanted}
    assert len(names) == len(wanted)


def test_an_unknown_scale_is_refused():
    with pytest.raises(UserError, match="scale 'toy'"):
        periods.rates("toy")
