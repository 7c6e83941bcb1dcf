"""Answers that are kept: what one is kept under, how it is written, where it lies. Nothing here knows a model."""
