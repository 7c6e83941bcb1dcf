"""What the writer of a policy says in full: expressions, words, topics, and the form of an answer.

expressions.py   one expression: compiled within bounds, and where it matches
regex.py      guards of type Regex
folding.py    texts such that what differs in case, width or blanks is the same, and the way back
words.py      thousands of words in one pass
keywords.py   guards of type Keywords
topics.py     guards of type Topics
schema.py     JSON Schema, within a budget of steps
language.py   which language a text is in
format.py     guards of type Format
again.py      what a model is asked that is to answer once more
"""
