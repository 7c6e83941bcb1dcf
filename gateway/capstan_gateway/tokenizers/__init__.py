"""Tokenizers that were shipped beside the config: found, read, used, and no longer used where engines count otherwise.

files         which files of the directory are the tokenizer of a name; read within bounds
template      the chat template: Jinja in a sandbox, within bounds
conversation  messages and tools as engines hand them to a template (pure)
hugging_face  `tokenizer.json` with its template;  ranks: OpenAI's `.tiktoken` files
trust         whether counts agree with what engines tell (pure)
shelf         the tokenizers of all models, read again when their files change
"""
