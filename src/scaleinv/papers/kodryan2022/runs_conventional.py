"""Conventional training seen from the sphere: what scale invariance costs, and which ELR schedule is best.

>>> sorted(pair("digits", (0,)))
['si lr 0.02', 'si lr 0.1', 'standard lr 0.02', 'standard lr 0.1']
>>> len(schedules("digits", (0,)))
13
"""

from collections.abc import Sequence
from dataclasses import replace

from scaleinv.papers.scales import pick, settings
from scaleinv.studies.obtain import Request

#: learning rates of the conventional training; with 5000 images the frozen head and its norm of 10 ask for less
RATES = (0.02, 0.1)
_LOWER = {"cifar-small": (0.0008, 0.004)}
_PAIR = {
    "digits": {"batch_size": 64, "epochs": 15},
    "mnist": {"epochs": 20},
    "cifar-small": {"epochs": 20, "augment": True},
    "paper": {"epochs": 200, "augment": True},
}


def pair(scale: str, seeds: Sequence[int]) -> dict[str, list[Request]]:
    """Request the same conventional training (momentum, weight decay, cosine) of the fully scale-invariant network, its
    head frozen, and of the standard one, each at the rates of :data:`RATES` and lower ones: what acts on
    scale-invariant weights is the ELR, so the same rate is not the same training.
    """
    base = settings(scale, model="convnet", **pick(_PAIR, scale, "pairs of networks"))
    base = replace(base, momentum=0.9, weight_decay=5e-4, schedule="cosine")
    base = replace(base, evaluation="online", eval_every=base.epochs, record_steps=False)
    return {
        f"{variant} lr {lr:g}": [Request(settings=replace(base, variant=variant), lr=lr, seed=seed) for seed in seeds]
        for variant in ("si", "standard")
        for lr in (*_LOWER.get(scale, ()), *RATES)
    }


#: per scale: ELRs in regime 1 next to the boundary, in regime 2 next to it, deep in regime 2, in regime 3; the low end
_STARTS = {
    "digits": (1e-3, 4e-3, 2e-2, 1e-1, 3e-4),
    "mnist": (2e-4, 8e-4, 5e-3, 5e-2, 1e-4),
    "cifar-small": (1e-3, 2e-3, 8e-3, 1e-1, 2.5e-4),
    "paper": (5e-4, 1e-3, 5e-3, 5e-2, 1e-4),
}


#: on CIFAR-10 a network that fits its images, as one of width 8 never does; on 2000 of them regime 1 ends at 1e-3
_SCHEDULED = {
    "digits": settings("digits", model="mlp", subset=300, epochs=60),
    "mnist": settings("mnist", model="convnet", epochs=30),
    "cifar-small": settings("cifar-small", model="convnet", width=16, subset=2000, batch_size=32, epochs=40),
    "paper": settings("paper", model="convnet", epochs=200),
}


def schedules(scale: str, seeds: Sequence[int]) -> dict[str, list[Request]]:
    """Request constant, cosine, step and two-stage schedules of the ELR from each start, by name, all equally long.

    A step divides by 10 at 1/2 and 3/4, two-stage goes to the low end at 1/2; from regime 3 there is cosine alone.
    """
    *starts, low = pick(_STARTS, scale, "schedules")
    base = replace(_SCHEDULED[scale], evaluation="online", eval_every=_SCHEDULED[scale].epochs)
    found = {}
    for start in starts:
        shapes = {
            "constant": "constant",
            "cosine": "cosine",
            "step": "step:0.1@0.5,0.75",
            "two-stage": f"stages:0.5={low / start:.6g}",
        }
        for name, shape in shapes.items():
            if start == starts[-1] and name != "cosine":
                continue
            one = replace(base, schedule=shape)
            found[f"{name} from {start:g}"] = [Request(settings=one, elr=start, seed=seed) for seed in seeds]
    return found
