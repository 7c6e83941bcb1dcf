"""The loop that knows no kind: keys wait, run, back off, and are woken again."""
