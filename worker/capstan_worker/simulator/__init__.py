"""An OpenAI-compatible engine that runs no model: for the quick start, for tests, and for demos.

It answers like vLLM on the wire, keeps time like an engine with a batch and a KV cache, and breaks on request.
"""
