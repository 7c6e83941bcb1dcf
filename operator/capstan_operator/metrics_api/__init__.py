"""external.metrics.k8s.io, served by every replica of the operator: what an HPA asks how many replicas are asked for.

place.py         where it is
authority.py     an authority of our own, and certificates of it
authorities.py   the Secret with it
front_proxy.py   who may call: the API server, by the certificate of its front proxy
loads.py         how many replicas are asked for, of the models that are asked about
server.py        the API, by TLS
registration.py  its APIService, made while a model needs it, by the process that leads
trials.py        for how long it stays although it is not available, and when it is tried again
"""
