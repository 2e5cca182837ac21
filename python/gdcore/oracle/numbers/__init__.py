"""Arithmetic in more than float64, and the operands it takes."""
