"""APIs that are not OpenAI's, translated. Pure: documents and bytes in, documents and bytes out."""
