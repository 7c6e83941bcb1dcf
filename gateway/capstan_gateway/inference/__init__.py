"""Where inference requests come in: the table of their routes, and the handler that gives each to the pipeline."""
