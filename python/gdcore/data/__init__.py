"""What is fitted: shapes, problems, rows, labels and frames."""
