"""What a fit returns, and the files that hold it."""
