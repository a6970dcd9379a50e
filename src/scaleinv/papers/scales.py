"""The scales at which claims and figures are run: one table, from seconds to days.

=============== =========================================================== =====================
scale           what is trained                                             data
=============== =========================================================== =====================
``toy``         nothing: formulas and simulators                            none
``digits``      networks of width 8 on 8x8 images, seconds                  with scikit-learn
``mnist``       width 8, 5000 images, minutes                               ``SCALEINV_DATA``
``cifar-tiny``  width 16 (periods: 8), 500 images, minutes                  ``SCALEINV_DATA``
``cifar-small`` width 8, 5000 images, half an hour                          ``SCALEINV_DATA``
``paper``       the papers' own: width 32, all images, days on a CPU        ``SCALEINV_DATA``
=============== =========================================================== =====================

An experiment starts from :func:`settings` of its scale and changes what it has to, by a table of its own
(:func:`pick`); ``papers/PAPER/runs*.py`` say why.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings

Scale = Literal["toy", "digits", "mnist", "cifar-tiny", "cifar-small", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
T = TypeVar("T")

_BASE: dict[str, Settings] = {
    "digits": Settings(),
    "mnist": Settings(data="mnist", width=8, subset=5000),
    "cifar-tiny": Settings(data="cifar10", width=16, subset=500),
    "cifar-small": Settings(data="cifar10", width=8, subset=5000),
    "paper": Settings(data="cifar10", width=32),
}


def settings(scale: str, **changes: Any) -> Settings:
    """Return the settings of a scale with ``changes``.

    >>> settings("mnist", epochs=20).subset
    5000
    """
    return dataclasses.replace(pick(_BASE, scale, "runs"), **changes)


def pick(table: Mapping[str, T], scale: str, what: str) -> T:
    """Return the entry of a scale; UserError where ``what`` the table is about is not defined at it.

    >>> pick({"digits": 0.1}, "digits", "runs with label noise")
    0.1
    """
    if scale not in table:
        raise UserError(f"no {what} at scale {scale!r}; there are: {', '.join(table)}")
    return table[scale]


def data_of(scale: str) -> str | None:
    """Return the data set that only the user can give, if the scale needs one.

    >>> data_of("paper"), data_of("digits")
    ('cifar10', None)
    """
    data = _BASE[scale].data if scale in _BASE else "digits"
    return None if data == "digits" else data
