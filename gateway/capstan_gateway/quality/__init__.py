"""How good an answer is, as a number from 0 to 1. Pure, no I/O."""
