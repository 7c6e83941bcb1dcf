"""Guards that ask somebody: a model, by a call within the request, or a service at a URL.

model.py       one call of a model on a request's behalf; several of them at once
service.py     one call of a service that a policy names
moderation.py, attack.py, topics.py    what is asked about each text
grounding.py, confidence.py            what is asked about an answer as a whole
webhook.py     somebody's own guard: what is sent, and what comes back
"""
