"""Who asks: credentials, and what is known of whoever has one. Nobody else says whose a request is."""
