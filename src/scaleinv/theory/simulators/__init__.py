"""Simulate the toy function, norm recursions, the ideal gas, random gradients."""
