"""Kernels that show what the referee sees: right ones, mistakes and cheats of ten operations."""
