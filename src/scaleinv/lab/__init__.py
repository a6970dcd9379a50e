"""Train one run and record it in its folder."""
