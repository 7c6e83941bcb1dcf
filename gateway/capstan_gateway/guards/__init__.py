"""What guards look for, without any I/O: a text goes in, what was found in it comes out.

port.py      what a detector is, and what it says
text/        how a text reads, whatever it was written with
similar_topics.py  texts that are similar to examples of a topic
plain/       what a policy says in full: expressions, words, topics, forms
attacks/     who wants to take a model over, or to talk it out of its rules
pii/         personal data and secrets
placeholders.py    what stands for them in what a model sees, and how an answer gets them back
"""
