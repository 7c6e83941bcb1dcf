"""Runs: models that are asked the cases of a suite, what that takes, and the files that keep answers and scores."""
