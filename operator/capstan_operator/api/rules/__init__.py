"""The rules between fields, by what they are about: each in CEL for the API server and in Python for everything else.

sources.py    where weights come from: the shapes of hf://, pvc://, s3://, gs://, oss:// and oci://
names.py      names that must differ, and what a name may look like
answers.py    what answers for a model: an engine, a hosted API, a router or a cascade, and what excludes what
engine.py     images and versions of the engine, and what each type of engine can be told
kvcache.py    what each engine can be told of its KV cache
speculative.py  what guesses tokens
placement.py  GPUs, how a replica is spread over them, and nodes
scaling.py    the number of replicas
rollout.py    rollouts in steps
serving.py    prices, windows, prefixes
cache.py      the claim for the weights

A module has a tuple for each class whose rules it holds, in CAPITALS and named like the class. A message follows the
field's path in both languages: ``spec.engine.version: must not be set together with `image```.
"""
