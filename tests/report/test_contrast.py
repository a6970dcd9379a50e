"""Text and links of the pages are readable: 4.5 to 1 in light and dark (WCAG AA)."""

import re
from pathlib import Path

import pytest

import scaleinv

CSS = (Path(scaleinv.__file__).parent / "page.css").read_text(encoding="utf-8")


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_links(scheme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    found = dict(re.findall(r"--(\w+): (#\w{6})", blocks[0]))
    if scheme == "dark":
        found |= dict(re.findall(r"--(\w+): (#\w{6})", blocks[1]))
    for name in ("ink", "soft", "link", "good", "bad", "open"):
        for ground in ("page", "raised"):
            assert contrast(found[name], found[ground]) >= 4.5, (name, ground)


def test_no_media_query_that_browsers_drop() -> None:
    assert not re.search(r"@media[^{]*and \(not", CSS)
