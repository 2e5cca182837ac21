"""The results of fits, and the files that hold them."""
