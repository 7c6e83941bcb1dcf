"""Which blocks of prompts the engine holds, told to gateways on the worker port (`capstan_contract.kv_events`).

vLLM's events ─► wire ─► table ─┐
(ZMQ: subscriber)               ├─► held: what is there now ─► stream: one reader each, on /kv-events
the simulator's own blocks ─────┘
"""
