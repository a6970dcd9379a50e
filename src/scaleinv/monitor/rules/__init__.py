"""The rules by which a monitor alerts; each says what triggers it, and of what it has to stay silent."""
