"""The frame of every page, and what a page is: an ordered tuple of sections.

The same tuple gives the HTML page and the image files, so that a section added to it appears in both. A page loads
nothing: style and script are in it, and its policy forbids any request. The templates escape every text.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from typing import Any, Protocol, TypeVar

from scaleinv import text
from scaleinv.errors import needs
from scaleinv.plots.drawing import Drawing
from scaleinv.plots.style import regime_colours, regime_names

with needs("lab"):
    import jinja2
    from markupsafe import Markup


Facts = TypeVar("Facts", contravariant=True)


class Section(Protocol[Facts]):
    """A part of a page, made of facts alone. A subclass writes ``html``, and the others where it needs them."""

    def applies(self, facts: Facts) -> bool:
        """Say whether there is something to show; it is asked first."""
        return True

    def drawings(self, facts: Facts) -> list[Drawing]:
        """Draw its figures in order, also for the image files."""
        return []

    def html(self, facts: Facts, drawn: Sequence[Drawing]) -> str:
        """Make the section with its figures ``drawn``, from :meth:`drawings`; every text in it is escaped."""
        ...


class Figures(Section[Facts]):
    """A heading and its figures; left out where there are none, unless ``empty`` says what to read then."""

    def __init__(
        self, title: Callable[[Facts], str], make: Callable[[Facts], list[Drawing]], *, empty: str = ""
    ) -> None:
        self.title, self.make, self.empty = title, make, empty

    def drawings(self, facts: Facts) -> list[Drawing]:
        return self.make(facts)

    def html(self, facts: Facts, drawn: Sequence[Drawing]) -> str:
        if not drawn and not self.empty:
            return ""
        return fragment("parts.html.j2", "figures", self.title(facts), drawn, self.empty)


def section_page(title: str, sections: Iterable[Section[Facts]], facts: Facts) -> str:
    """Make a whole HTML page of all sections that apply."""
    body = [section.html(facts, section.drawings(facts)) for section in sections if section.applies(facts)]
    script = Markup(_file("scaleinv.report", "page.js") + _file("scaleinv.report", "zoom.js"))
    return render("frame.html.j2", title=title, body=map(Markup, body), script=script)


def section_drawings(sections: Iterable[Section[Facts]], facts: Facts) -> list[Drawing]:
    """Draw all figures of a page in its order."""
    return [drawing for section in sections if section.applies(facts) for drawing in section.drawings(facts)]


def render(template: str, **values: Any) -> str:
    """Make a whole page from a template in ``report/templates`` that is or extends ``frame.html.j2``."""
    return _templates.get_template(template).render(css=Markup(_file("scaleinv", "page.css")), **values)


def fragment(template: str, macro: str, *values: Any, **named: Any) -> Markup:
    """Make a part of a page with a macro of a template."""
    made: Markup = getattr(_templates.get_template(template).module, macro)(*values, **named)
    return made


def regime_text(regime: int | None) -> str:
    """Name a regime with its number: ``1 convergence``, ``undecided``."""
    return f"{regime} {regime_names[regime]}" if regime else regime_names[None]


def _file(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text("utf-8")


def _finish(value: Any) -> Any:
    """Make any text one that HTML and UTF-8 can hold; the template then escapes it."""
    return value if hasattr(value, "__html__") else text.clean(value)


_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("scaleinv.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_finish,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals |= {"regime_colours": regime_colours, "regime_names": regime_names, "regime_text": regime_text}
_templates.globals |= {"count": text.count, "elr_text": text.elr_text}
_templates.filters |= {
    name: getattr(text, name) for name in ("capital", "duration", "number", "percent", "plain", "show")
}
_templates.filters["exp"] = math.exp
_templates.filters["whole"] = lambda words: Markup(text.numbers_whole(text.esc(words)))
_templates.filters["steps"] = lambda value: f"{value:.0f}" if math.isfinite(value) else text.MISSING
_templates.tests["measured"] = lambda value: math.isfinite(text.number(value))
