"""What hosted models speak beside chat completions: requests written for them, and their answers and streams read."""
