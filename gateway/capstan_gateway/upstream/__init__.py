"""Moving bytes to an engine or a hosted API and back: the only package that knows an HTTP client."""
