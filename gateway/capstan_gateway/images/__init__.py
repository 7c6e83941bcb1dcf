"""Images that requests name by URL: which are fetched, and how."""
