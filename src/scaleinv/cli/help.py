"""Show the flags of a command in groups, in lines that break between words; ``--help`` alone needs them."""

import ast
import contextlib
import dataclasses
import inspect
import io
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
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
    """Make a class whose help shows the flags of ``kind`` by group, or in one group where it has few."""
    fields = {one.name: one for one in dataclasses.fields(kind)}
    texts, hints = field_texts(kind), get_type_hints(kind, include_extras=True)

    def flags(names: Iterable[str]) -> list[Any]:
        return [
            (name, Annotated[hints[name], tyro.conf.arg(help=_one_line(texts.get(name)))], _default(fields[name]))
            for name in names
        ]

    if len(fields) < _MANY:
        made = dataclasses.make_dataclass(kind.__name__, flags(fields), kw_only=True)
    else:
        shown: list[Any] = []
        for title, names in GROUPS.items():
            group: Any = dataclasses.make_dataclass(title, flags(filter(fields.__contains__, names)), kw_only=True)
            group.__doc__ = ""
            shown.append((title, group, dataclasses.field(default_factory=group)))
        made = dataclasses.make_dataclass(kind.__name__, shown, kw_only=True)
    made.__doc__ = inspect.getdoc(kind)
    return made


def _one_line(text: str | None) -> str | None:
    """Join the lines of a text; the terminal breaks it where it is wide."""
    return None if text is None else " ".join(text.split())


def _default(field: Any) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    return dataclasses.field(default=field.default)


class _Said(io.StringIO):
    """Text that is for a terminal where the real stream is one, so that it keeps its colours."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return bool(self.stream.isatty())


@contextlib.contextmanager
def lines_of_words() -> Iterator[None]:
    """Break the lines that are printed within between words; those that are narrow enough stay as they are."""
    stream, said = sys.stdout, _Said(sys.stdout)
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        width = shutil.get_terminal_size().columns
        stream.write("".join(f"{broken(line, width)}\n" for line in said.getvalue().splitlines()))


def broken(line: str, width: int) -> str:
    """Break one line between words; a box of the help, whose lines fill the width, is left alone.

    >>> print(broken("Train one network and record its metrics.", 24))
    Train one network and
    record its metrics.
    """
    if len(line) <= width or line[0] in "╭│╰\x1b":
        return line
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


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
