"""How figures look, and drawing from numbers; needs matplotlib."""
