"""Bytes of answers: SSE frames, usage, and what makes a stream complete. Pure, no I/O."""
