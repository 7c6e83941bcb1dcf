"""What the Job of a rollout does: suites against candidate and stable revision, and a summary of what they say."""
