"""Complete a stored config by what follows from it."""

from collections.abc import Mapping
from typing import Any

from scaleinv.theory.guessing import chance_error, constant_loss

#: decided by the images, the labels and the loss, so no part of the identity or of what makes two configs differ
DERIVED = ("classes", "chance_error", "constant_loss")
#: of the package's own data sets, for configs that were written before their classes were part of them
_OWN_CLASSES = {"digits": 10, "mnist": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100}


def complete(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the fields of a config.json by those of DERIVED that are not there and follow from the others.

    An older config has none of them. Its classes are known if its data set is one of the package's own; taken as
    equally frequent they decide, with the name of the loss, the rest. A field that is there is left as it is, null too.
    """
    found = dict(fields)
    data, classes = found.get("data"), found.get("classes")
    if "classes" not in found and isinstance(data, str) and data in _OWN_CLASSES:
        found["classes"] = classes = _OWN_CLASSES[data]
    if type(classes) is int and classes >= 2:
        found.setdefault("chance_error", chance_error(classes))
        if isinstance(found.get("loss"), str):
            found.setdefault("constant_loss", constant_loss(found["loss"], classes))
    return found
