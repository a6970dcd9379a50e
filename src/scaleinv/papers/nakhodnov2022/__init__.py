"""Nakhodnov et al., Doklady Mathematics 2022: squared loss on the sphere."""
