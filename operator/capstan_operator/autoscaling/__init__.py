"""Scaling carried out: what gateways say is asked for, and decisions by it, handed to those who write.

demand.py      what the gateway's replicas say of each model, asked once a second while anybody wants to know
standing.py    whether HPAs and KEDA can ask the operator
hpas.py        what HPAs say of scaled models, and whether somebody else has made some
autoscaler.py  a decision for each scaled model, in the process that leads
"""
