"""Run definitions that claims and figures share, so that each run is trained once: what to run, not what it says."""
