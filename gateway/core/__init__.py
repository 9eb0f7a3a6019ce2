"""The vocabulary of the house: facts only; nothing here acts, nothing here imports another room."""
