"""Lobacheva, Kodryan et al., NeurIPS 2021 (arXiv 2106.15739): the periodic behaviour of training with weight decay."""
