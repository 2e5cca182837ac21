"""How a problem is solved: options, the start, descent and closed form."""
