"""Scorers: what an answer is worth, without a judge. Each is built from a check of a suite (`build.py`)."""
