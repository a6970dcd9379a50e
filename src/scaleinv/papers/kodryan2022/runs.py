"""Runs on the sphere in the three regimes (Kodryan et al. 2022), for claims and figures alike.

A :class:`Net` is a network on a data set with the ELRs of its sweep, from convergence to divergence by factors of 2
where its boundaries are, and the ELRs that the experiments within a regime use. Digits are few and easy: 512 of them at
batch 16 give a ConvNet of width 8 all three regimes within 50 epochs (of 256, regime 2 is but a factor 2 of ELR wide).

>>> net = find("digits")
>>> [request.elr for request in sweep(net, seeds=(0,))][:3]
[0.000125, 0.00025, 0.0005]
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.papers.scales import pick, settings
from scaleinv.studies.obtain import Request


@dataclass(frozen=True)
class Net:
    """A network, its data, and where its regimes lie; ELRs ascend.

    Found beforehand on seed 0 on digits and CIFAR-10; on MNIST assumed as on digits; at paper scale the paper's.
    """

    settings: Settings
    elrs: tuple[float, ...]  # of the sweep
    convergence: tuple[float, ...]  # inside regime 1: the spectrum of minima
    equilibrium: tuple[float, ...]  # inside regime 2, from just above the boundary to near regime 3
    seeds: tuple[int, ...] = (0, 1)
    convergence_epochs: int | None = None  # of the runs inside regime 1, where those of the sweep end too early for it
    level_eval_every: int | None = None  # above regime 1, where a run stays at a level


def _powers(low: float, count: int) -> tuple[float, ...]:
    """Return ``count`` ELRs from ``low`` on, by factors of 2."""
    return tuple(float(f"{low * 2**k:.6g}") for k in range(count))


#: width 128, batch 32: at batch 16 the MLP's passage from 1 to 2 has no step
_MLP = settings(
    "digits", model="mlp", width=128, subset=256, batch_size=32, epochs=120, evaluation="online", eval_every=40
)
_CONVNET = settings("digits", model="convnet", subset=512, epochs=50, eval_every=2, keep_every=5, recompute_bn=True)
_CIFAR = {"width": 16, "batch_size": 32, "evaluation": "online", "eval_every": 10, "recompute_bn": True}

_NETS: dict[tuple[str, str], Net] = {
    ("digits", "convnet"): Net(
        _CONVNET,
        elrs=_powers(1.25e-4, 11),
        convergence=_powers(1.25e-4, 6),
        equilibrium=(8e-3, 1.1e-2, 1.6e-2, 2.2e-2),
        level_eval_every=5,
    ),
    ("digits", "mlp"): Net(
        _MLP,
        elrs=_powers(5e-4, 9),
        convergence=_powers(5e-4, 3),
        equilibrium=(1.6e-2, 2e-2),
        seeds=(0, 1, 2),
    ),
    # of plain digits every image is right even where the loss is a hundred times that of a minimum: with a fifth of the
    # labels redrawn a train error on the way between two minima says something
    ("digits-redrawn", "convnet"): Net(
        replace(_CONVNET, label_noise=0.2, evaluation="online", eval_every=50),
        elrs=_powers(1.25e-4, 10),
        convergence=(1.25e-4, 2.5e-4, 5e-4, 7e-4, 1e-3),
        equilibrium=_powers(2e-3, 4),
        convergence_epochs=100,
    ),
    # 97 200 weights for 5000 images fit them within 40 epochs of 157 steps; the 24 300 of width 8 never do (see
    # docs/results/periods.md)
    ("cifar-small", "convnet"): Net(
        settings("cifar-small", model="convnet", epochs=40, **_CIFAR),
        elrs=(2e-4, 4e-4, 8e-4, 1.6e-3, 4e-3, 1e-2, 3e-2, 1e-1),
        convergence=(1e-4, 2e-4, 4e-4, 5.6e-4),
        equilibrium=(8e-4, 1.6e-3, 4e-3, 1e-2),
        seeds=(0,),
        convergence_epochs=80,  # after 40 they are at losses of 0.01 to 0.02
    ),
    # minutes: 500 images, 16 steps an epoch
    ("cifar-tiny", "convnet"): Net(
        settings("cifar-tiny", model="convnet", epochs=100, **_CIFAR),
        elrs=(5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 1e-1),
        convergence=(5e-4, 1e-3, 2e-3),
        equilibrium=(8e-3, 1.6e-2),
        seeds=(0,),
    ),
    ("mnist", "convnet"): Net(
        settings(
            "mnist", model="convnet", subset=2000, epochs=40, batch_size=32,
            eval_every=2, keep_every=5, recompute_bn=True,
        ),
        elrs=_powers(2.5e-4, 10),
        convergence=_powers(2.5e-4, 5),
        equilibrium=(8e-3, 1.1e-2, 1.6e-2),
        seeds=(0,),
    ),
    # the released figure: width 32, 50000 images, batch 128, 1000 epochs: long, on the CPU
    ("paper", "convnet"): Net(
        settings("paper", model="convnet", epochs=1000, eval_every=1, keep_every=50, recompute_bn=True),
        elrs=(1e-5, 1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 5e-2, 1e-1),
        convergence=(1e-5, 1e-4, 2e-4, 3e-4, 5e-4),
        equilibrium=(1e-3, 2e-3, 5e-3),
        seeds=(1,),
    ),
}  # fmt: skip


def find(scale: str, model: str = "convnet") -> Net:
    """Return the network of a scale."""
    if (scale, model) not in _NETS:
        there = ", ".join(f"{m} at {s}" for s, m in _NETS)
        raise UserError(f"no regimes of {model!r} are defined at scale {scale!r}; there are: {there}")
    return _NETS[scale, model]


def for_paths(scale: str) -> Net:
    """Return the network for paths between minima: that of the scale; on digits one with a fifth of labels redrawn."""
    return find("digits-redrawn" if scale == "digits" else scale)


def sweep(net: Net, seeds: Sequence[int] | None = None, elrs: Sequence[float] | None = None) -> list[Request]:
    """Request every ELR of the sweep, or of ``elrs``, and every seed; ELR by ELR within a seed.

    Those of regime 1 are as long as it takes to converge, those above it rest at a level sooner.
    """
    level = replace(net.settings, eval_every=net.level_eval_every or net.settings.eval_every)
    return [
        Request(settings=level if elr > net.convergence[-1] else _long(net), elr=elr, seed=seed)
        for seed in (net.seeds if seeds is None else seeds)
        for elr in (net.elrs if elrs is None else elrs)
    ]


def _long(net: Net) -> Settings:
    """Return the settings of a run inside regime 1."""
    epochs = net.convergence_epochs
    return net.settings if epochs is None else replace(net.settings, epochs=epochs, keep_every=epochs // 10)


def minima(net: Net, seed: int, elrs: Sequence[float] | None = None) -> list[Request]:
    """Request runs from scratch, ``convergence`` or ``elrs``, all long enough to converge."""
    elrs = net.convergence if elrs is None else elrs
    return sweep(net if net.convergence_epochs is None else replace(net, settings=_long(net)), [seed], elrs)


def retrained(
    net: Net, run: Path, elrs: Sequence[float], *, seed: int, epoch: int | None = None, epochs: int | None = None
) -> list[Request]:
    """Request runs that start from the weights of ``run`` (after ``epoch``, default its last) with each of ``elrs``.

    ``seed`` decides the batches (the run's own would repeat its first); ``epochs``: default those of ``minima``.
    """
    again = replace(net.settings, epochs=epochs or net.convergence_epochs or net.settings.epochs)
    return [Request(settings=again, elr=elr, seed=seed, start=run, start_epoch=epoch) for elr in elrs]


def relaxed(net: Net, run: Path, elr: float, *, seed: int) -> Request:
    """Request a run that starts from the end of ``run`` with another ELR of regime 2, twice as long as the sweep's
    runs: when the ELR falls the loss undershoots its new level, and comes back over some 40 epochs of digits.
    """
    epochs = 2 * (net.settings.epochs or 0)
    longer = replace(net.settings, epochs=epochs, evaluation="online", eval_every=epochs, keep_every=None)
    return Request(settings=longer, elr=elr, seed=seed, start=run)


#: a re-training within regime 1: ELR of the start, new ELR, epoch of the start (None: its last)
Retraining = tuple[float, float, int | None]
_LOWER: tuple[Retraining, ...] = ((2e-3, 5e-4, 10), (4e-3, 1e-3, 10))
_HIGHER: tuple[Retraining, ...] = ((2.5e-4, 2e-3, None), (5e-4, 4e-3, None))


def retrainings(scale: str) -> dict[str, tuple[Retraining, ...]]:
    """Return re-trainings within regime 1, to a ``lower`` ELR and to a ``higher`` one; on digits two of each.

    The lower ELR sets in early: at the end of a run, little of the trajectory is left that it could keep.
    """
    if scale == "digits":
        return {"lower": _LOWER, "higher": _HIGHER}
    net = find(scale)
    # neither the slowest nor at the boundary, as far as that leaves them apart
    low, high = net.convergence[1 if len(net.convergence) > 4 else 0], net.convergence[-2]
    kept = minima(net, net.seeds[0], [high])[0].settings.keep_every
    return {"lower": ((high, low, 2 * kept if kept else None),), "higher": ((low, high, None),)}


def new_elrs(net: Net) -> tuple[float, ...]:
    """Return three ELRs inside regime 1, for runs that leave regime 2."""
    return net.convergence[-4:-1] if len(net.convergence) > 3 else net.convergence


#: rates by factors of 4 over all that does anything, with a fixed weight decay
_LRS = tuple(float(f"{1e-3 * 4**k:.6g}") for k in range(10))


def whole_space(net: Net, kind: str) -> list[Request]:
    """Request the same network without a sphere, by rising lr: ``weight-decay`` (scale-invariant, nothing else changed)
    or ``conventional`` (affine norms and the head trained, momentum, weight decay, augmentation).

    Not augmented are digits: crops of 8x8 pixels padded by 4 lose half of the image, and nothing converges.
    """
    plain = replace(net.settings, evaluation="online", eval_every=20, keep_every=None, record_steps=False)
    if plain.data == "digits":
        plain = replace(plain, subset=256, epochs=40)
    if kind == "weight-decay":
        return [Request(settings=replace(plain, weight_decay=1e-3), lr=4 * lr) for lr in _LRS]
    if kind == "conventional":
        usual = replace(plain, variant="standard", momentum=0.9, weight_decay=5e-4, augment=plain.data != "digits")
        return [Request(settings=usual, lr=lr) for lr in _LRS]
    raise UserError(f"unknown kind of training {kind!r}; there are: weight-decay, conventional")


def squared_loss() -> tuple[Settings, tuple[float, ...]]:
    """Return settings of the squared loss on digits and its ELRs; head norm 1.5, layer norm (over batches of 16-32
    images batch norm adds noise that keeps the squared loss from falling; see ``nakhodnov2022/runs.py``).
    """
    mse = replace(_MLP, normalization="layer", loss="mse", head_norm=1.5, epochs=200, eval_every=200)
    return mse, (0.12, 0.24, 0.34, 0.48, 0.68, 0.96, 1.4, 2.8)


def resnet() -> tuple[Settings, tuple[float, ...]]:
    """Return settings of a narrow ResNet-18 on digits and its ELRs."""
    small = settings("digits", model="resnet18", width=4, subset=128, epochs=160, evaluation="online", eval_every=160)
    return small, (2e-3, 4e-3, 8e-3, 1.2e-2, 4.8e-2)


#: ELRs below the boundary, dense near it
_PASSAGE = {
    "digits": ("mlp", (4e-3, 6e-3, 8e-3, 1e-2, 1.2e-2, 1.4e-2, 1.6e-2, 2e-2)),
    "cifar-small": ("convnet", (2e-4, 4e-4, 5.6e-4, 6.4e-4, 8e-4)),
    "paper": ("convnet", (1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4)),
}


def passages(scale: str) -> list[Request]:
    """Request the runs whose time to convergence is measured; on digits those of the MLP, five seeds."""
    model, elrs = pick(_PASSAGE, scale, "passages to convergence")
    net = find(scale, model)
    return [request for seed in (range(5) if scale == "digits" else net.seeds) for request in minima(net, seed, elrs)]


#: ELR of the runs with label noise, and epochs between their tests (test images cost more than 5000 train images)
_NOISY = {"digits": (5e-4, 1), "cifar-small": (2e-4, 2), "paper": (5e-4, 1)}


def label_noise(scale: str) -> list[Request]:
    """Request one ELR of regime 1 with the true labels and with a fifth of them redrawn; tested all along."""
    elr, eval_every = pick(_NOISY, scale, "runs with label noise")
    base = replace(find(scale).settings, evaluation="online", eval_every=eval_every, recompute_bn=True, keep_every=None)
    base = replace(base, epochs=2 * (base.epochs or 0))  # noise is learnt late
    return [Request(settings=replace(base, label_noise=share), elr=elr) for share in (0.0, 0.2)]


#: redrawn labels and seeds of the runs for double descent, which shows with much noise
MUCH_NOISE, NOISY_SEEDS = 0.4, range(5)


def much_label_noise(scale: str) -> list[Request]:
    """Request runs of one ELR of regime 1 with two fifths of the labels redrawn, five seeds; tested all along."""
    noisy = label_noise(scale)[-1]
    return [replace(noisy, settings=replace(noisy.settings, label_noise=MUCH_NOISE), seed=seed) for seed in NOISY_SEEDS]
