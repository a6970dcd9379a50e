"""Turn the docstrings of the package into Markdown for the reference: roles, examples, literal blocks."""

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([^`]+)`")


def markdown(text: str) -> str:
    """Write a docstring as Markdown.

    >>> markdown("See :func:`~scaleinv.geometry.norm`.")
    'See `norm`.'
    """
    text = _ROLE.sub(lambda found: f"`{found.group(1).rpartition('.')[2]}`", text)
    text = re.sub(r"::(\n\n {4})", r":\1", text)
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith(">>> ") and not inside:
            lines += [*([""] if lines and lines[-1] else []), "```pycon"]
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    return "\n".join([*lines, "```"] if inside else lines)


class Docstrings(Extension):
    """Applied by mkdocstrings while it reads the sources."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
