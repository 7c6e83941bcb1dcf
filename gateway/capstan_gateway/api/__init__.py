"""The HTTP surface: thin handlers, the OpenAI envelope, SSE framing."""
