"""Keep the loss of the first batch of a problem of one's own: what a fingerprint of weights and data cannot see.

A forward, a loss or a transform whose code has changed computes another first loss from the same weights and examples.
It stands in config.json, and a run that is resumed compares it before anything is written.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scaleinv.errors import UserError
from scaleinv.lab.batchnorm import fresh_bn_statistics, mode
from scaleinv.lab.config import RunConfig
from scaleinv.lab.global_random import PASS, seeded
from scaleinv.lab.images import Images
from scaleinv.runfolder.layout import CONFIG
from scaleinv.runfolder.seal import read_sealed

if TYPE_CHECKING:
    from scaleinv.lab.build import Setup

#: relative difference of two first losses that rounding on other machines may make
_ROUNDING = 1e-4


def first_loss(setup: "Setup") -> float:
    """Compute the loss of the first examples, as drawn and in order, in train mode; the network is as before."""
    with seeded(setup.config.seed, PASS, 1), torch.no_grad(), mode(setup.model, True), fresh_bn_statistics(setup.model):
        size = min(len(setup.train), setup.config.batch_size)
        inputs, targets = setup.train.batch(torch.arange(size, device="cpu"), setup.device)
        return float(setup.judge.measure(setup.judge.outputs(setup.model, inputs), targets)[0])


def stored_task(config: RunConfig, setup: "Setup", folder: Path) -> Mapping[str, Any] | None:
    """Describe a problem of one's own for config.json; UserError where the one in ``folder`` computes otherwise."""
    if isinstance(setup.problem, Images):
        return None
    loss = first_loss(setup)
    path = folder / CONFIG
    if path.exists():
        head = read_sealed(path)
        task = head.get("problem") if isinstance(head, dict) else None
        kept = task.get("first_loss") if isinstance(task, dict) else None
        same_start = config.start is None or setup.started
        if same_start and isinstance(kept, (int, float)) and abs(loss - kept) > _ROUNDING * max(abs(kept), 1e-12):
            raise UserError(
                f"{folder}: the first batch has the loss {loss:.9g}, and had {kept:.9g} when the run was made: the "
                "code of the model, the loss or the data has changed; choose another --out"
            )
    stored = getattr(setup.problem, "stored", None) or getattr(setup.problem, "recipe", None)
    content = dict(stored) if isinstance(stored, Mapping) else {}
    if "place" in content:
        content["place"] = os.path.relpath(content["place"], folder)
    groups = {config.variant: [names.split("+") for names in setup.groups]}
    told = {"name": config.problem, "groups": groups, "law": setup.law}
    return {**content, **told, **({"first_loss": loss} if math.isfinite(loss) else {})}
