"""What clients speak beside chat completions: their requests read, and answers and streams written for them.

Also what passes unchanged, because the hosted model speaks the client's own dialect (`native`).
"""
