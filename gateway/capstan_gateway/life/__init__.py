"""What goes on beside the requests: jobs that are restarted, threads for what blocks, outboxes, and an end in order."""
