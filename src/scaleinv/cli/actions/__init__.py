"""Do what the commands say; imported once the arguments are understood."""
