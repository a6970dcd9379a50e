"""Make a Problem of next-token prediction on a long array of tokens."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from scaleinv.errors import UserError
from scaleinv.lab.problem import Judge, Measured, Split, SplitName, class_errors, default_call
from scaleinv.lab.references import object_of, reference_to, short_name
from scaleinv.lab.splits import Indices
from scaleinv.lab.supervised import checked_factory

#: tokens that are counted or hashed at a time
_CHUNK = 1 << 24


class Tokens:
    """Windows of ``context`` tokens, one after another; the target of a place is the token that follows it."""

    def __init__(self, tokens: Any, context: int) -> None:
        self.tokens, self.context = tokens, context

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.context

    def batch(
        self, indices: Indices, device: torch.device | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Give (inputs, targets), int64, shape (examples, context)."""
        numbers = range(*indices.indices(len(self))) if isinstance(indices, slice) else indices.tolist()
        size = self.context
        windows = np.stack([np.asarray(self.tokens[k * size : k * size + size + 1]) for k in numbers])
        both = torch.from_numpy(windows.astype(np.int64))
        if device is not None:
            both = both.to(device)
        return both[:, :-1], both[:, 1:]


class LanguageModel:
    """Next-token prediction; see :func:`language_model`."""

    kind = "language model"
    calls_plainly = False

    def __init__(
        self,
        factory: Any,
        args: Mapping[str, Any] | None,
        train: Tokens,
        test: Tokens | None,
        call: Callable[[nn.Module, Any], Any] | None,
        name: str | None,
        data_name: str,
    ) -> None:
        self.factory, self.args = checked_factory(factory), dict(args or {})
        self.model_name, self.data_name, self.loss_name = short_name(factory), data_name, "ce"
        self.name = name or f"{self.model_name} on {data_name}"
        self.splits = {"train": train, "test": test}
        self.context, self._call = train.context, call
        self.calls_plainly = call is None
        counts = _counts(train.tokens)
        shares = counts[counts > 0] / counts.sum()
        self.classes: int | None = len(shares)
        self.chance_error: float | None = 1 - float(shares.max())
        self.constant_loss: float | None = -float(np.sum(shares * np.log(shares)))
        self.groups: dict[str, Any] = {}
        self.sources: dict[str, Any] = {"train": None, "test": None}
        told = [
            self.kind,
            self.model_name,
            sorted(self.args.items()),
            self.context,
            "" if call is None else short_name(call),
        ]
        told += ["" if split is None else _hash(split.tokens) for split in (train, test)]
        self.fingerprint = hashlib.sha256(repr(told).encode()).hexdigest()
        self.judge = Judge(self.call, self._measure, self.error, False)

    def model(self, generator: torch.Generator) -> nn.Module:
        """Call the factory; it draws from the global generators, which the lab has seeded."""
        return self.factory(**self.args)

    def split(self, name: SplitName) -> Split | None:
        """Give the windows."""
        return self.splits[name]

    def call(self, model: nn.Module, inputs: Any) -> Any:
        """Give logits (examples, context, vocabulary)."""
        outputs = (self._call or default_call)(model, inputs)
        return outputs[0] if isinstance(outputs, tuple) else outputs

    def _measure(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten()), targets.numel()

    def loss(self, outputs: Tensor, targets: Tensor) -> Measured:
        """Give (sum, tokens) of the cross-entropy in nats."""
        mean, weight = self._measure(outputs, targets)
        return mean * weight, weight

    def error(self, outputs: Tensor, targets: Tensor) -> Measured:
        """Give (wrong tokens, tokens)."""
        return class_errors(outputs.flatten(0, 1), targets.flatten())

    def check_outputs(self, outputs: Any, targets: Tensor) -> None:
        """Refuse logits of another form, and tokens outside the vocabulary."""
        if not isinstance(outputs, Tensor) or outputs.ndim != 3 or outputs.shape[:2] != targets.shape:
            got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise UserError(
                f"the model of {self.name} gives {got} for tokens of shape {tuple(targets.shape)}; logits "
                f"{(*targets.shape, 'vocabulary')} are needed: give call=, a function (model, tokens) -> logits"
            )
        high = len(_counts(self.splits["train"].tokens)) - 1  # type: ignore[union-attr]
        if high >= outputs.shape[2]:
            raise UserError(
                f"the tokens of {self.name} go up to {high}, and the model gives logits of {outputs.shape[2]} tokens"
            )

    @property
    def recipe(self) -> dict[str, Any] | None:
        """How it is made again in another process, without its tokens; None: a part cannot be named."""
        model, call = reference_to(self.factory), None if self._call is None else reference_to(self._call)
        if model is None or (self._call is not None and call is None):
            return None
        parts = {"model": model, "args": self.args, "call": call, "context": self.context}
        return {"kind": self.kind, **parts, "name": self.name, "data_name": self.data_name}

    def why_not_elsewhere(self) -> str:
        """Say which part keeps it in this process."""
        return f"the model ({self.model_name})" if reference_to(self.factory) is None else "the call"

    def __repr__(self) -> str:
        return f"<{self.kind} problem: {self.name}, {len(self.splits['train'])} windows of {self.context}>"  # type: ignore[arg-type]


def language_model(
    model: Any,
    tokens: Any,
    *,
    context: int,
    test: Any = 0.1,
    args: Mapping[str, Any] | None = None,
    call: Callable[[nn.Module, Any], Any] | None = None,
    name: str | None = None,
) -> LanguageModel:
    """Make a Problem of next-token prediction.

    - ``model``: a factory of an ``nn.Module`` that turns tokens (examples, context) into logits (examples, context,
      vocabulary), or an answer with ``logits``; ``args``: its keyword arguments; ``call``: (model, tokens) -> logits,
      where it is not ``model(tokens)``.
    - ``tokens``: whole numbers, 1-dimensional: a tensor, an array or a memmap (``np.memmap("train.bin", np.uint16)``).
      Examples are windows of ``context`` tokens, one after another; an epoch sees each once, shuffled.
    - ``test``: tokens too, or the fraction at the end of ``tokens`` that is kept for it; None: none.
    - UserError for tokens that are no whole numbers, or too few for two windows.

    Chance error and constant loss are those of the frequencies of single tokens: ``1 - max p`` and ``-sum p log p``.
    """
    if isinstance(context, bool) or not isinstance(context, int) or context < 1:
        raise UserError(f"context {context!r} is not a positive whole number of tokens")
    if isinstance(tokens, str) and (":" not in tokens or any(c.isspace() for c in tokens)):
        raise UserError("the tokens are a text; give whole numbers, such as np.frombuffer(text.encode(), np.uint8)")
    if isinstance(tokens, (str, dict)):
        tokens = object_of(tokens)
        tokens = tokens() if callable(tokens) else tokens
    train = _token_array(tokens, "tokens")
    if isinstance(test, float):
        if not 0 < test < 1:
            raise UserError(f"test {test} is not a fraction between 0 and 1")
        cut = len(train) - round(test * len(train))
        train, held = train[:cut], train[cut:]
    else:
        held = None if test is None else _token_array(test, "test tokens")
    splits = [None if part is None else Tokens(part, context) for part in (train, held)]
    for what, split in zip(("train", "test"), splits):
        if split is not None and len(split) < 2:
            raise UserError(f"{len(split.tokens)} {what} tokens are too few for two windows of {context} tokens")
    assert splits[0] is not None
    if np.all(train[:_CHUNK] == train[0]) and np.count_nonzero(_counts(train)) == 1:
        raise UserError(f"all train tokens are {train[0]}: at least two are needed to tell apart")
    return LanguageModel(
        model, args, splits[0], splits[1], object_of(call) if isinstance(call, str) else call, name, "tokens"
    )


def _token_array(tokens: Any, what: str) -> Any:
    """Take tokens as an array of numpy; a memmap stays on the disk."""
    array = tokens.detach().cpu().numpy() if isinstance(tokens, Tensor) else tokens
    if isinstance(array, (str, bytes, Path)):
        raise UserError(f"the {what} are {type(tokens).__name__}; give an array of whole numbers")
    array = array if isinstance(array, np.ndarray) else np.asarray(array)
    if array.dtype.kind not in "iu":
        raise UserError(f"the {what} are {array.dtype}; give whole numbers")
    if array.ndim != 1:
        raise UserError(f"the {what} have the shape {array.shape}; give one dimension")
    if len(array) and array.dtype.kind == "i" and int(array.min()) < 0:
        raise UserError(f"the {what} hold {int(array.min())}; tokens are 0, 1, 2, ...")
    return array


def _counts(tokens: Any) -> Any:
    counts = np.zeros(0, np.int64)
    for start in range(0, len(tokens), _CHUNK):
        found = np.bincount(np.asarray(tokens[start : start + _CHUNK]))
        size = max(len(counts), len(found))
        counts = np.pad(counts, (0, size - len(counts))) + np.pad(found, (0, size - len(found)))
    return counts


def _hash(tokens: Any) -> str:
    digest = hashlib.sha256(f"{len(tokens)} ".encode())
    for start in range(0, len(tokens), _CHUNK):
        digest.update(np.asarray(tokens[start : start + _CHUNK]).astype("<u4").tobytes())
    return digest.hexdigest()
