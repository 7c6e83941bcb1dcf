"""Answers of production, judged as they come: windows of scores, and the scorer that fills them from samples."""
