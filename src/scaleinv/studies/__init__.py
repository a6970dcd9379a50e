"""Many runs: grids, sweeps, runs found or trained, the regime map, landscape studies."""
