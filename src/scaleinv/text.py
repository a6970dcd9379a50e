"""Write numbers, counts and names for people, as text or HTML."""

import difflib
import html
import math
import re
from collections.abc import Iterable
from typing import Any

MISSING = "–"


def number(value: Any) -> float:
    """Read a float from JSON: NaN for None, text and truth values."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def near(name: str, known: Iterable[str]) -> str:
    """Ask whether a known name was meant, as a part of a sentence; empty where none is near.

    >>> near("covnet", ["mlp", "convnet"]), near("vgg", ["mlp", "convnet"])
    (", did you mean 'convnet'?", '')
    """
    found = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean {found[0]!r}?" if found else ""


def show(value: Any, digits: int = 3) -> str:
    """Write a number as ``0.0123``, ``1.2e-4``, ``3500``, ``1.2e6``, ``∞``; a dash where nothing was measured."""
    x = number(value)
    if math.isnan(x):
        return MISSING
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if x == 0:
        return "0"
    size = abs(float(f"{x:.{digits - 1}e}"))
    if 1e-3 <= size < 1e5:
        return f"{x:,.0f}".replace(",", " ") if size >= 10 ** (digits - 1) else f"{x:.{digits}g}"
    mantissa, exponent = _scientific(x, digits)
    return f"{mantissa}e{exponent}"


def _scientific(x: float, digits: int) -> tuple[str, int]:
    """Split a number into mantissa, without trailing zeros, and exponent."""
    mantissa, _, exponent = f"{x:.{digits - 1}e}".partition("e")
    return mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa, int(exponent)


def percent(value: Any) -> str:
    """Write a fraction as ``3.2 %``."""
    x = number(value)
    return MISSING if math.isnan(x) else f"{100 * x:.1f} %"


def elr_text(elr: float, digits: int = 2) -> str:
    """Write an ELR as it is typed: ``3.2e-3``, ``0.1``, ``2``."""
    if not math.isfinite(elr):
        return "unknown"
    mantissa, exponent = _scientific(elr, digits)
    text = f"{mantissa}e{exponent}"
    return f"{float(text):g}" if -1 <= exponent <= 3 else text


def elr_digits(elrs: Iterable[float]) -> int:
    """Find the fewest digits, at least 2 and at most 8, at which different ELRs look different."""
    different = {elr for elr in elrs if math.isfinite(elr)}
    return next((d for d in range(2, 8) if len({elr_text(elr, d) for elr in different}) == len(different)), 8)


def duration(seconds: float) -> str:
    """Write a time as ``12.5 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


#: marks that change the order of what stands around them, ends of lines beside \n, and a mark of byte order
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""Show by its code what a terminal would obey or hide: control characters, marks of direction, lone surrogates.

    New lines and tabs stay.

    >>> print(visible("a\x1b[2Jb\u202ec"))
    a\x1b[2Jb\u202ec
    """
    return _UNSEEN.sub(_code, text)


def _code(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def clean(value: Any) -> str:
    """Write any value as text that XML, HTML and UTF-8 hold and that shows all it holds, by :func:`visible`."""
    return visible(str(value).replace("\r\n", "\n"))


def short(value: Any, limit: int = 28) -> str:
    """Put clean text on one line of at most ``limit`` characters, cut in the middle."""
    text = " ".join(clean(value).split())
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[:head]}…{text[-(limit - 1 - head) :]}"


def esc(value: Any) -> str:
    """Escape text for HTML, in an element or a quoted attribute."""
    return html.escape(clean(value), quote=True)


def numbers_whole(text: str) -> str:
    """Keep numbers like ``2.3e-2`` of an escaped text on one line."""
    return re.sub(r"(?<![\w.])\d[\d.]*e-\d+(?!\w)", r'<span class="whole">\g<0></span>', text)


def plain(value: Any) -> str:
    """Write a JSON value in words: numbers at four digits, lists with commas, nested objects as ``key value``."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: MISSING}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return show(value, 4)
    if isinstance(value, list):
        shown = [plain(item) for item in value[:12]]
        return ", ".join(shown) + (f", … ({len(value)} in all)" if len(value) > 12 else "")
    if isinstance(value, dict):
        return "; ".join(f"{clean(key)} {plain(item)}" for key, item in value.items())
    return clean(value)


def count(n: int, noun: str, plural: str | None = None) -> str:
    """Write a count: ``1 run``, ``3 runs``."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def error_text(error: BaseException) -> str:
    """Write an error in one line: its type and its words.

    >>> error_text(ValueError("two  lines\\nof words"))
    'ValueError: two lines of words'
    """
    return " ".join(f"{type(error).__name__}: {error}".split())


def steps_text(steps: float) -> str:
    """Write a number of steps, which need not be whole: ``1 step``, ``1.2e+03 steps``, ``less than a step``.

    >>> steps_text(0.3), steps_text(1.001), steps_text(1234.5)
    ('less than a step', '1 step', '1.23e+03 steps')
    """
    shown = f"{steps:.3g}"
    return "less than a step" if 0 < float(shown) < 1 else f"{shown} step{'' if shown == '1' else 's'}"


def range_text(least: float, most: float) -> str:
    """Write a range, or one number where its ends look the same.

    >>> range_text(0.5, 2.0), range_text(1.0001, 1.0002)
    ('0.5 to 2', '1')
    """
    ends = (f"{least:.3g}", f"{most:.3g}")
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def capital(text: str) -> str:
    """The text with a capital first letter; the others stay."""
    return text[:1].upper() + text[1:]
