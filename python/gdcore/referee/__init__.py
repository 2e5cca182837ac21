"""Whether a kernel is right, and how much faster, though it may not want you to know."""
