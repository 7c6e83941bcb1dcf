"""The gateway config: compile, write, acknowledge."""
