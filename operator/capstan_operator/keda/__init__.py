"""KEDA, as the scaler of models: what it asks is answered by every replica of the operator.

messages.py   what is asked and answered: KEDA's externalscaler.proto
scaler.py     the external scaler, by gRPC and TLS
presence.py   whether the cluster has KEDA, and what it says of our ScaledObjects: looked at by the process that leads
"""
