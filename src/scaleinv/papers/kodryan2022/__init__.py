"""Kodryan, Lobacheva et al., NeurIPS 2022 (arXiv 2209.03695): three regimes of training on the sphere."""
