"""Which answers of production are judged later: chosen, redacted, and put on Redis. Nobody waits for it."""
