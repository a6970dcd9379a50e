"""What the optimizer of a log means for its clock: by the name of its class, as a user says it."""

from dataclasses import dataclass
from typing import Any

from scaleinv.errors import UserError
from scaleinv.theory.optimizers import UNKNOWN, traits_of_names

#: classes by the names that people type
_CLASSES = ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "RMSprop", "Lion", "Muon", "Adafactor",
            "Shampoo", "SOAP", "LARS", "LAMB", "Sophia", "SGDW", "AdamP", "SGDP", "Prodigy")  # fmt: skip


@dataclass(frozen=True)
class Acting:
    """What an optimizer makes of lr and wd."""

    law: str  # of the ELR: sgd | normalised | measured
    pace: float | None  # how often lr counts in the clock; None: decay has no clock, the norm has to tell it
    plain_sgd: bool  # SGD without momentum, of which the bounds of the theory speak
    said: tuple[str, ...] = ()

    def of(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Drop a weight decay that does not tell the clock (0 does: there is none)."""
        wd = columns.get("wd")
        no_decay = isinstance(wd, int | float) and not wd
        return columns if self.pace is not None or wd is None or no_decay else {**columns, "wd": None}


def acts_as(optimizer: str, momentum: float = 0.0) -> Acting:
    """Find what an optimizer makes of the rates of a log.

    - ``optimizer``: the name of its class, in any case. ``momentum``: of SGD.
    - Raises UserError for a name that is not known, and for a momentum outside [0, 1) or of another optimizer.

    >>> acts_as("sgd", 0.75).pace, acts_as("AdamW").law, acts_as("adam").pace
    (4.0, 'normalised', None)
    """
    if not 0 <= momentum < 1:
        raise UserError(f"momentum {momentum:g} is not in [0, 1); give that of SGD, or leave it out")
    known = {name.lower(): name for name in _CLASSES}
    name = known.get(optimizer.strip().lower(), optimizer.strip())
    traits = traits_of_names([name])
    if traits == UNKNOWN:
        have = ", ".join(name for name in _CLASSES if traits_of_names([name]) != UNKNOWN)
        raise UserError(f"optimizer {optimizer!r} is not known; choose one of {have}, or register_optimizer yours")
    if momentum and name != "SGD" and traits.clock({"momentum": momentum}) == traits.clock({}):
        raise UserError(f"momentum {momentum:g} does not change the clock of {name}; leave it out")
    said: tuple[str, ...] = ()
    if name != "SGD":
        law = {"sgd": "lr/rho^2", "normalised": "lr/rho"}.get(traits.law or "", "not known")
        pace = traits.clock({"momentum": momentum})
        clock = (
            "as with plain SGD" if pace == 1 else "taken from the norm itself" if pace is None else f"{pace:.3g} lr wd"
        )
        said = (f"Optimizer: {name}, of the law {law}; the clock of its weight decay is {clock}.",)
    pace = traits.clock({"momentum": momentum})
    return Acting(traits.law or "measured", pace, name == "SGD" and not momentum, said)
