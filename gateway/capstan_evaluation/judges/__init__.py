"""Judges: models that are asked what an answer is worth. What they are asked and how they are read is pure."""
