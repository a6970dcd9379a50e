"""Map the regimes of a model of timm: any factory is a problem's model, a functools.partial too.

    pip install timm
    python examples/timm_regimes.py [MODEL] [EPOCHS] [OUT]

Handwritten digits, as images of 3 x 32 x 32. ``variant="si"`` converts the model: its norms lose their gains, the last
layer is frozen, and what then keeps a scale is told. Some 13 minutes on two busy cores. In 20 epochs the least ELR
converges, the two largest diverge, and those between are undecided: they come to the minimum and are thrown out again.
Finer ELRs there and more epochs decide.
"""

import argparse
import functools

import torch
from torch.nn import functional

import scaleinv as si
from scaleinv.lab.data import load_dataset
from scaleinv.plugins import load_object


def digits() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Train and test images and labels."""
    data = load_dataset("digits", subset=512)

    def large(images: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(images, size=32, mode="bilinear").expand(-1, 3, -1, -1).contiguous()

    return (large(data.train_images), data.train_labels), (large(data.test_images), data.test_labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="resnet10t")
    parser.add_argument("epochs", nargs="?", type=int, default=20)
    parser.add_argument("out", nargs="?")
    given = parser.parse_args()
    train, test = digits()
    create_model = load_object("timm:create_model")  # as `import timm`, which fails where no torchvision fits torch
    factory = functools.partial(create_model, given.model, num_classes=10)
    problem = si.classification(factory, train, test)
    out = given.out or f"runs/timm-{given.model}"
    sweep = si.sweep(
        problem, elr="1e-5:1e-1:5", epochs=given.epochs, out=out, variant="si", batch_size=32, evaluation="online"
    )
    print(sweep)


if __name__ == "__main__":
    main()
