"""Claims of Lobacheva, Kodryan et al. 2021 on networks: the periods remain when one thing of the set-up is changed."""

from __future__ import annotations

from collections.abc import Callable

from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.lobacheva2021 import runs
from scaleinv.papers.lobacheva2021.evidence import periodic, periods_of


def _variation(name: str) -> Callable[[Sheet, Context], None]:
    def check(sheet: Sheet, context: Context) -> None:
        (run,) = periods_of(context, [runs.variations(context.scale)[name]])
        periodic(sheet, run)

    return check


momentum = _variation("momentum 0.9")
augmentation = _variation("augmentation")
standard = _variation("trainable affine norms and head")
layer_norm = _variation("layer normalization")
group_norm = _variation("group normalization")
weight_norm = _variation("weight normalization")
full_batch = _variation("full-batch gradient descent")
adam_l2 = _variation("Adam with L2")
adamw = _variation("AdamW")
