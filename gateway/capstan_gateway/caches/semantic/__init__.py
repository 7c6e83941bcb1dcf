"""Whether two questions have one answer: what is surely another question, and how alike the rest must be. Pure."""
