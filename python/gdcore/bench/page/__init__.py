"""A report as one page that needs no other file and no network."""
