"""Map the regimes of a model of timm: any factory is a problem's model, a functools.partial too.

    pip install timm
    python examples/timm_regimes.py [MODEL] [EPOCHS] [OUT]

Handwritten digits, as images of 3 x 32 x 32. ``variant="si"`` converts the model: its norms lose their gains, the last
layer is frozen, and what then keeps a scale is told.
"""

import functools
import sys

import timm
import torch
from torch.nn import functional

import scaleinv as si
from scaleinv.lab.data import load_dataset


def digits() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Train and test images and labels."""
    data = load_dataset("digits", subset=512)

    def large(images: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(images, size=32, mode="bilinear").expand(-1, 3, -1, -1).contiguous()

    return (large(data.train_images), data.train_labels), (large(data.test_images), data.test_labels)


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "resnet10t"
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    out = sys.argv[3] if len(sys.argv) > 3 else f"runs/timm-{model}"
    train, test = digits()
    factory = functools.partial(timm.create_model, model, num_classes=10)
    problem = si.classification(factory, train, test)
    sweep = si.sweep(problem, elr="1e-4:1:5", epochs=epochs, out=out, variant="si", batch_size=32, evaluation="online")
    print(sweep)


if __name__ == "__main__":
    main()
