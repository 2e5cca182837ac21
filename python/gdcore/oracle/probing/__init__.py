"""Operands that tell mistakes apart."""
