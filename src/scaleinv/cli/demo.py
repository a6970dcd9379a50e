"""``scaleinv demo``: what this package is about, live, in half a minute."""

from dataclasses import dataclass

from scaleinv.cli.parse import Json


@dataclass(frozen=True)
class DemoCommand:
    """Show the three regimes on the toy function and the doctor's table of a small network, computed now.

    Needs no data, trains nothing and writes nothing. It ends with what to try next.
    """

    json: Json = False
