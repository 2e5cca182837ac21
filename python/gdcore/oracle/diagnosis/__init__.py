"""What may have gone wrong in a result that is outside its bound."""
