"""A small ResNet of transformers, at random weights (no download), for the doctor.

scaleinv doctor examples/doctor_resnet.py:make --input 4,3,32,32 --lr 0.1
"""

import torch
from transformers import ResNetConfig, ResNetForImageClassification


def make() -> ResNetForImageClassification:
    """Two stages of one basic block each; put your own model in its place."""
    torch.manual_seed(0)
    return ResNetForImageClassification(
        ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=10)
    )
