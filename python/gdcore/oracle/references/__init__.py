"""Reference results and the bounds of their errors."""
