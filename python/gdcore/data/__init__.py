"""What is fitted: shapes, rows and their sums, problems, labels and frames."""
