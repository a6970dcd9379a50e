"""What runs say, from their folders, without torch."""
