"""How models are asked whether something is wrong with a text, and how their answers are read.

harms.py       what a moderating model says of one text
packs.py       texts as they fit into one question
quoted.py      text that a model is shown, and that cannot end what it stands in
replies.py     the text, the object and the first token of an answer
llama_guard.py, shield_gemma.py, openai.py, classified.py, judge.py   the formats of moderating models
formats.py     which of them a model has
attacks.py     what classifiers and chat models say of prompt injections and jailbreaks
sentences.py, grounding.py   which sentences of an answer its context supports
similar.py     embeddings, and how similar they are

Whoever reads an answer raises `Unreadable` where it says nothing that can be relied on. No answer reads as harmless
unless it says so.
"""
