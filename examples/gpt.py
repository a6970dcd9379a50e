"""A small pre-norm GPT for the examples beside this file, and the text it reads. Parameters have no biases, norms no
gains.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS = 128, 64, 64, 4, 2


def norm(x: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:])


class Block(nn.Module):
    def __init__(self, qk_norm: bool) -> None:
        super().__init__()
        self.qk_norm = qk_norm
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = norm(x)
        q, k, v = (w(h).unflatten(-1, (HEADS, -1)).transpose(1, 2) for w in (self.q, self.k, self.v))
        if self.qk_norm:
            q, k = norm(q), norm(k)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(-2))
        return x + self.down(functional.gelu(self.up(norm(x))))


class GPT(nn.Module):
    def __init__(self, qk_norm: bool = True) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block(qk_norm) for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.places(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            h = block(h)
        return self.head(norm(h))


def text() -> Tensor:
    """tiny-shakespeare as numbers below 128."""
    path = Path(os.environ.get("SCALEINV_DATA", "data")) / "tinyshakespeare.txt"
    if not path.exists():
        raise SystemExit(
            f"{path} is not there: download tiny-shakespeare (input.txt of karpathy/char-rnn) under that name,\n"
            "or set SCALEINV_DATA to the folder that has it; any English text of a megabyte will do"
        )
    return torch.tensor(list(path.read_bytes()), dtype=torch.int64).clamp(max=VOCABULARY - 1)


def batch(data: Tensor, size: int = 16) -> tuple[Tensor, Tensor]:
    starts = torch.randint(len(data) - LENGTH - 1, (size,))
    rows = torch.stack([data[s : s + LENGTH + 1] for s in starts])
    return rows[:, :-1], rows[:, 1:]
