"""What the commands do; imported once the arguments are understood."""
