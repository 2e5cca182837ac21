"""Rows that come in chunks: files and iterables, read once or once an epoch."""
