"""Show the flags of a command in groups; ``--help`` alone needs them."""

import ast
import dataclasses
import inspect
import textwrap
from typing import Annotated, Any, get_type_hints

import tyro

#: the groups of a command with many flags, in the order of the help, by the names of the fields
GROUPS: dict[str, tuple[str, ...]] = {
    "data": ("data", "subset", "label_noise", "augment", "data_dir"),
    "model": (
        "model", "model_args", "problem", "variant", "normalization", "norm_eps", "width", "head_norm",
    ),
    "training": (
        "elr", "lr", "weight_decay", "epochs", "steps", "batch_size", "loss", "optimizer", "optimizer_args", "momentum",
        "other_lr", "schedule", "warmup", "gradient", "granularity", "norm", "fix_norm", "start", "seed", "seeds",
    ),
    "measuring": ("evaluation", "eval_every", "recompute_bn", "record_steps", "keep_every"),
    "running": (
        "device", "nondeterministic", "threads", "oversubscribe", "workers", "launcher", "launcher_args", "prepare",
        "cancel", "no_check",
    ),
    "output": ("out", "config", "json", "quiet"),
}  # fmt: skip
#: a command with fewer flags is shown as it is
_MANY = 20


def flags_in_groups(kind: type[Any]) -> type[Any]:
    """Make a class whose help shows the flags of ``kind`` by group; ``kind`` itself where it has few."""
    fields = {one.name: one for one in dataclasses.fields(kind)}
    if len(fields) < _MANY:
        return kind
    texts, hints = field_texts(kind), get_type_hints(kind, include_extras=True)
    shown: list[Any] = []
    for title, names in GROUPS.items():
        flags: list[Any] = []
        for name in filter(fields.__contains__, names):
            told = tyro.conf.arg(help=texts.get(name))
            flags.append((name, Annotated[hints[name], told], dataclasses.field(default=fields[name].default)))
        group: Any = dataclasses.make_dataclass(title, flags, kw_only=True)
        group.__doc__ = ""
        shown.append((title, group, dataclasses.field(default_factory=group)))
    grouped = dataclasses.make_dataclass(kind.__name__, shown, kw_only=True)
    grouped.__doc__ = inspect.getdoc(kind)
    return grouped


def field_texts(kind: type[Any]) -> dict[str, str]:
    """Read the help text of every field: the text that follows it in the source, or that of its annotation."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(one):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:]):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))
    return found
