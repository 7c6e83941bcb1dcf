"""Files, and batches of requests that are asked from them when there is room: OpenAI's Batch API."""
