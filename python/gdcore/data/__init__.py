"""The data of fits: shapes, rows and their sums, problems, labels and frames."""
