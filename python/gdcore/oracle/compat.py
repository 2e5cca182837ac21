"""The calling conventions of torch and SciPy."""
