"""APIs beside chat completions, translated. Pure: documents and bytes in, documents and bytes out."""
