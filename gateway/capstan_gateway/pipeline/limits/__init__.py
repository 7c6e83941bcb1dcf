"""RateLimitPolicies on requests: what they count, what a request takes and used, what its client is told.

rules.py     from a policy's body to the counters of who asks (pure)
needs.py     what a request takes if a model answers
deciding.py  takes it near the limit, by what a prompt really has
doubts.py    whether an estimate decides (pure)
exact.py     who knows how many tokens a prompt has
grant.py     what one request has taken under one policy, until it ends
told.py      errors and headers (pure)
layer.py     the layer: reserve, go on, settle
kind.py      from the config to layers
view.py      how much of each rule is used
"""
