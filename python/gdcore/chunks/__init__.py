"""Rows that come in pieces: files and iterables, passed over once an epoch."""
