"""How many tokens a call has used, as told and as estimated, and what they cost. Pure, no I/O."""
