"""Derivatives of any function, by differences with error bounds."""
