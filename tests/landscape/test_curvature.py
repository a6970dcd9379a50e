"""Curvature against a dense float64 Hessian, known spectra, and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from tests.landscape.nets import BATCH, fingerprint, surface, toy, toy_state, turned
from torch import Tensor
from torch.nn import functional

from scaleinv.errors import UserError
from scaleinv.lab.evaluate import exact_metrics
from scaleinv.landscape import operators
from scaleinv.landscape.sharpness import gradients, homogeneity_defect, sharpness
from scaleinv.landscape.spectrum import top_eigenpairs, trace
from scaleinv.landscape.surface import Surface

pytestmark = pytest.mark.numerics


@dataclass(frozen=True)
class Matrix:
    """A symmetric map from a function, on the whole space."""

    size: int
    product: Callable[[Tensor], Tensor]

    def project(self, v: Tensor) -> Tensor:
        return v

    def __call__(self, v: Tensor) -> Tensor:
        return self.product(v)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- independent and slow: the mlp by hand, derivatives of a flat vector by torch.autograd.functional ------------------


def slow_logits(flat: Tensor, s: Surface, x: Tensor) -> Tensor:
    net: Any = s.model
    hidden, at = x.flatten(1), 0
    for t in s.tensors:
        w = flat[at : at + t.numel()].reshape(t.shape)
        at += t.numel()
        hidden = hidden @ w.T
        hidden = torch.relu((hidden - hidden.mean(0)) / hidden.var(0, unbiased=False).sqrt())
    return hidden @ net.head.weight.T + net.head.bias


def slow_losses(flat: Tensor, s: Surface, name: str) -> Tensor:
    """The loss of every image within its batch."""
    found = []
    for start in range(0, len(s.train[1]), BATCH if s.batch_size else 10**6):
        part = slice(start, start + (BATCH if s.batch_size else 10**6))
        logits, y = slow_logits(flat, s, s.train[0][part]), s.train[1][part]
        if name == "ce":
            found.append(-torch.log_softmax(logits, 1)[torch.arange(len(y)), y])
        else:
            found.append(((logits - functional.one_hot(y, 10).double()) ** 2).mean(1))
    return torch.cat(found)


def flat_weights(s: Surface) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in s.tensors])


def dense(s: Surface, name: str = "ce") -> dict[str, Tensor]:
    """Gradient, Hessian, per-image Jacobian of the losses and the logits, all at x, and the sphere's projector."""
    x = flat_weights(s)
    u = x / x.norm()
    hess = torch.autograd.functional.hessian(lambda z: slow_losses(z, s, name).mean(), x)
    jac = torch.autograd.functional.jacobian(lambda z: slow_losses(z, s, name), x)
    p = torch.eye(len(x), dtype=torch.float64) - torch.outer(u, u)
    return {"x": x, "g": jac.mean(0), "H": hess, "J": jac, "P": p, "rho2": (x @ x)}


def spherical(d: dict[str, Tensor]) -> Tensor:
    return d["rho2"] * d["P"] @ d["H"] @ d["P"]


@pytest.fixture(scope="module", params=[("ce", BATCH), ("mse", BATCH), ("ce", None)], ids=["ce", "mse", "full-batch"])
def case(request: pytest.FixtureRequest) -> tuple[Surface, str, dict[str, Tensor]]:
    loss, batch = request.param
    s = surface("mlp", loss=loss, batch_size=batch, width=3, images=48 if batch else 32)
    return s, loss, dense(s, loss)


def test_identities_of_a_scale_invariant_loss(case: tuple[Surface, str, dict[str, Tensor]]) -> None:
    """What the dense matrices must fulfil, and do: the reference is the right one."""
    _, _, d = case
    size = d["g"].norm()
    assert abs(d["g"] @ d["x"]) < 1e-10 * size
    torch.testing.assert_close(d["H"] @ d["x"], -d["g"], rtol=1e-8, atol=1e-9 * float(size))
    assert abs(d["x"] @ d["H"] @ d["x"]) < 1e-8 * d["H"].norm()


def test_products_equal_the_dense_hessian(case: tuple[Surface, str, dict[str, Tensor]]) -> None:
    s, _, d = case
    expected = spherical(d)
    with s.at():
        operator = operators.hessian(s)
        for seed in range(3):
            v = torch.randn(operator.size, generator=generator(seed), dtype=torch.float64)
            torch.testing.assert_close(operator(v), expected @ v, rtol=1e-8, atol=1e-9 * float(expected.norm()))
    assert operator.rho == pytest.approx(float(d["x"].norm()), rel=1e-14)
    assert operator.products == 3


def test_sharpness_equals_the_dense_spectrum(case: tuple[Surface, str, dict[str, Tensor]]) -> None:
    s, name, d = case
    before = fingerprint(s.model)
    found = sharpness(s, top=3, probes=60, fisher="empirical", generator=generator(1))
    assert fingerprint(s.model) == before
    expected = torch.linalg.eigvalsh(spherical(d)).flip(0)
    fisher = d["rho2"] * d["P"] @ (d["J"].T @ d["J"] / len(d["J"])) @ d["P"]
    for curvature, matrix, values in (
        (found.hessian, spherical(d), expected),
        (found.fisher, fisher, torch.linalg.eigvalsh(fisher).flip(0)),
    ):
        assert curvature is not None
        assert curvature.converged
        assert curvature.trace is not None
        for value, residual, exact in zip(curvature.eigenvalues, curvature.residuals, values):
            assert abs(value - float(exact)) <= residual + 1e-9 * float(values[0])
            assert value == pytest.approx(float(exact), rel=1e-3)
        true = float(torch.trace(matrix))
        assert abs(curvature.trace.value - true) < 4 * curvature.trace.error
        assert curvature.trace.error < 0.2 * float(matrix.norm())
    assert found.homogeneity < 1e-7
    assert found.stability(0.25) == pytest.approx(0.25 * float(expected[0]), rel=1e-3)
    # the effective gradient of the whole loss, and its radial part
    assert found.gradients.loss == pytest.approx(float(slow_losses(d["x"], s, name).mean()), rel=1e-10)
    assert found.gradients.full_norm == pytest.approx(float(d["g"].norm() * d["x"].norm()), rel=1e-9)
    assert found.gradients.radial < 1e-10


def test_gauss_newton_equals_its_dense_definition() -> None:
    s = surface("mlp", width=3, images=32)
    d = dense(s)
    x, total = d["x"], torch.zeros_like(d["H"])
    for start in (0, 16):
        images = s.train[0][start : start + 16]
        jac = torch.autograd.functional.jacobian(lambda z, images=images: slow_logits(z, s, images), x)  # (n, C, P)
        p = torch.softmax(slow_logits(x, s, images), 1)
        for j, q in zip(jac, p):
            total += j.T @ (torch.diag(q) - torch.outer(q, q)) @ j / 32
    expected = d["rho2"] * d["P"] @ total @ d["P"]
    with s.at():
        operator = operators.fisher(s, "gauss-newton")
        v = torch.randn(operator.size, generator=generator(), dtype=torch.float64)
        torch.testing.assert_close(operator(v), expected @ v, rtol=1e-8, atol=1e-9 * float(expected.norm()))


def test_nothing_depends_on_the_norm() -> None:
    """rho^-2 scaling of the Hessian: effective curvature and gradients are those of the direction."""
    s = surface("convnet", width=2, images=32)
    here = s.weights()
    a = sharpness(s, here, top=2, probes=4, fisher="empirical")
    b = sharpness(s, s.on_sphere(here, 3.7 * s.radius(here)), top=2, probes=4, fisher="empirical")
    assert b.gradients.rho == pytest.approx(3.7 * a.gradients.rho, rel=1e-12)
    assert b.gradients.mean_norm == pytest.approx(a.gradients.mean_norm, rel=1e-9)
    assert b.gradients.noise == pytest.approx(a.gradients.noise, rel=1e-9)
    assert a.fisher is not None
    assert b.fisher is not None
    for one, other in ((a.hessian, b.hessian), (a.fisher, b.fisher)):
        assert other.eigenvalues == pytest.approx(one.eigenvalues, rel=1e-8)
        assert one.trace is not None
        assert other.trace is not None
        assert other.trace.value == pytest.approx(one.trace.value, rel=1e-8)


def test_second_difference_along_a_great_circle() -> None:
    """v^T A v is the second derivative of the loss along the geodesic of v on the unit sphere; also in float32."""
    s = surface("convnet", width=2, norm_eps=1e-5)  # with an eps that breaks the invariance
    wide = surface("convnet", width=2, norm_eps=1e-5, dtype=torch.float32)
    u = flat_weights(s)
    rho = float(u.norm())
    v = torch.randn(len(u), generator=generator(3), dtype=torch.float64)
    v = v - (v @ u) / (u @ u) * u
    v /= v.norm()

    def loss(t: float) -> float:
        point = math.cos(t) * u + math.sin(t) * rho * v
        state, at = s.weights(), 0
        for name in s.names:
            state[name] = point[at : at + state[name].numel()].reshape(state[name].shape)
            at += state[name].numel()
        with s.at(state), torch.no_grad():
            return sum(share * float(s.loss(s.model(x), y)) for x, y, share in s.parts())

    # larger steps cross kinks of ReLU and max-pool, whose jumps of the slope a Hessian does not see; at this one the
    # rounding error is 4e-16 * loss / h^2 = 1e-5 in absolute terms
    h = 1e-5
    second = (loss(h) - 2 * loss(0.0) + loss(-h)) / h**2
    for one, rel in ((s, 1e-4), (wide, 1e-3)):
        with one.at():
            assert float(v @ operators.hessian(one)(v)) == pytest.approx(second, rel=rel)


@pytest.mark.parametrize("model", ["convnet", "resnet18"])
def test_another_library_agrees(model: str) -> None:
    """hessian-eigenthings' product over the same batches, projected here, for networks with no slow twin."""
    library = pytest.importorskip("hessian_eigenthings")
    s = surface(model, images=32, width=2)
    with s.at():
        parts = [(x, y) for x, y, _ in s.parts()]  # two batches of 16: equal shares
        theirs = library.HessianOperator(s.model, parts, lambda net, part: s.loss(net(part[0]), part[1]))
        mine = operators.hessian(s)
        v = torch.randn(mine.size, generator=generator(2), dtype=torch.float64)
        x = flat_weights(s)
        v -= (v @ x) / (x @ x) * x
        # its vectors follow the order of the network's parameters, ours that of the groups
        sizes = {name: t.numel() for name, t in zip(s.names, s.tensors)}
        pieces = dict(zip(s.names, torch.split(v, list(sizes.values()))))
        order = [name for name, p in s.model.named_parameters() if p.requires_grad]
        image = theirs.matvec(torch.cat([pieces[name] for name in order]))
        found = dict(zip(order, torch.split(image, [sizes[name] for name in order])))
        expected = torch.cat([found[name] for name in s.names])
        expected = float(x @ x) * (expected - (expected @ x) / (x @ x) * x)
        torch.testing.assert_close(mine(v), expected, rtol=1e-8, atol=1e-9 * float(expected.norm()))


def test_toy_minimum_has_the_known_curvature() -> None:
    """f = a sin^2 t on the circle: f'' = 2 a cos 2t; gradient descent is stable below elr 1/a, where elr f'' = 2."""
    s = toy([0.0, 2.0], alpha=3.0)
    for theta in (0.0, 0.3, 1.0):
        with s.at(toy_state(theta, 2.0)):
            operator = operators.hessian(s)
            v = torch.tensor([math.cos(theta), -math.sin(theta)], dtype=torch.float64)
            assert float(v @ operator(v)) == pytest.approx(2 * 3.0 * math.cos(2 * theta), rel=1e-12)


def test_eps_shows_in_the_defect() -> None:
    small, large = (surface("mlp", norm_eps=eps) for eps in (1e-30, 1e-1))
    with small.at():
        assert homogeneity_defect(small) < 1e-7
    with large.at():
        assert homogeneity_defect(large) > 1e-2
    assert gradients(large).radial > 1e-4 > gradients(small).radial


@pytest.mark.parametrize("model", ["mlp", "convnet"])
def test_gradients_equal_the_labs_and_slow_ones(model: str) -> None:
    s = surface(model, images=49)  # the 49th image joins the last batch
    here = turned(s.weights(), s.names, 0.3, seed=2)
    before = fingerprint(s.model)
    found = gradients(s, here)
    assert fingerprint(s.model) == before
    with s.at(here):
        rows = exact_metrics(s, [1.0] * 9, step=0, epoch=0)
        single = []
        for cut in (slice(0, 16), slice(16, 32), slice(32, 49)):
            g = torch.autograd.grad(s.loss(s.model(s.train[0][cut]), s.train[1][cut]), s.tensors)
            single.append(torch.cat([p.reshape(-1) for p in g]).numpy())
    table = {(r.split, r.group, r.quantity): r.value for r in rows}
    assert found.loss == pytest.approx(table["train", "total", "loss"], rel=1e-12)
    assert found.error == table["train", "total", "error"]
    assert found.mean_norm == pytest.approx(table["train", "total", "eg"], rel=1e-12)
    assert (found.batches, found.images) == (3, 49)
    share = np.array([16, 16, 17]) / 49
    mean = sum(w * g for w, g in zip(share, single))
    noise = sum(w * float(np.sum((g - mean) ** 2)) for w, g in zip(share, single))
    norms = found.rho * np.array([np.linalg.norm(g) for g in single])
    assert found.full_norm == pytest.approx(found.rho * float(np.linalg.norm(mean)), rel=1e-10)
    assert found.noise == pytest.approx(found.rho * math.sqrt(noise), rel=1e-8)
    assert found.snr == pytest.approx(found.full_norm / found.noise)
    assert found.mean_norm_error == pytest.approx(float(norms.std(ddof=1)) / math.sqrt(3), rel=1e-9)
    assert found.ratio == pytest.approx(found.mean_norm / found.loss)


def test_one_batch_has_no_noise() -> None:
    found = gradients(surface(batch_size=None))
    assert math.isnan(found.noise)
    assert math.isnan(found.mean_norm_error)
    assert found.full_norm == pytest.approx(found.mean_norm, rel=1e-12)


# -- the library's side, on matrices with known spectra ----------------------------------------------------------------


def known_matrix(values: Tensor, seed: int = 0) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator(seed), dtype=torch.float64))
    return q @ torch.diag(values) @ q.T


def test_known_spectrum() -> None:
    spectrum = torch.cat([torch.tensor([50.0, 20.0, 7.0]), torch.linspace(-1.0, 1.0, 97)]).double()
    matrix = known_matrix(spectrum)
    found = top_eigenpairs(Matrix(100, lambda v: matrix @ v), 3, generator=generator())
    assert found.converged
    assert found.values == pytest.approx((50.0, 20.0, 7.0), rel=1e-4)
    for value, residual, vector in zip(found.values, found.residuals, found.vectors):
        assert residual == pytest.approx(float((matrix @ vector - value * vector).norm()), rel=1e-6)
    again = top_eigenpairs(Matrix(100, lambda v: matrix @ v), 3, generator=generator())
    assert (again.values, again.products) == (found.values, found.products)  # deterministic
    warm = top_eigenpairs(Matrix(100, lambda v: matrix @ v), 1, generator=generator(), krylov=4, start=found.vectors[0])
    assert warm.values[0] == pytest.approx(50.0, rel=1e-6)
    assert warm.products <= 6


def test_trace_is_unbiased_and_its_error_honest() -> None:
    """200 estimates: their mean is the trace within 4 standard errors, 95 % intervals cover as they should."""
    spectrum = torch.cat([torch.tensor([50.0, 20.0, 7.0]), torch.linspace(-1.0, 2.0, 57)]).double()
    matrix = known_matrix(spectrum, 4)
    operator = Matrix(60, lambda v: matrix @ v)
    known = top_eigenpairs(operator, 3, generator=generator())
    true = float(torch.trace(matrix))
    for pairs in (None, known):
        draws = [trace(operator, 12, generator=generator(1000 + i), known=pairs) for i in range(200)]
        values = np.array([d.value for d in draws])
        assert abs(values.mean() - true) < 4 * values.std(ddof=1) / math.sqrt(200)
        covered = np.mean([abs(d.value - true) < 2.2 * d.error for d in draws])  # t, 11 degrees of freedom, 95 %
        assert 0.88 < covered <= 1.0
        assert np.mean([d.error for d in draws]) == pytest.approx(values.std(ddof=1), rel=0.25)
    plain, sharp = (
        np.mean([trace(operator, 12, generator=generator(i), known=k).error for i in range(20)]) for k in (None, known)
    )
    assert sharp < 0.3 * plain  # the large eigenvalues are known


def test_no_convergence_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator that is not linear: found values are NaN or flagged, nothing is raised."""
    g = generator()
    noisy = Matrix(40, lambda v: torch.randn(40, generator=g, dtype=torch.float64) * v)
    found = top_eigenpairs(noisy, 2, generator=generator())
    assert not found.converged


def test_refusals() -> None:
    s = surface()
    with pytest.raises(UserError, match="unknown Fisher"):
        sharpness(s, fisher="true")
    with pytest.raises(UserError, match="choose fewer"):
        top_eigenpairs(Matrix(3, lambda v: v), 2, generator=generator())
    with pytest.raises(UserError, match="probes"):
        trace(Matrix(3, lambda v: v), 0, generator=generator())
    with pytest.raises(UserError, match="another network"):
        gradients(s, surface(width=5).weights())
