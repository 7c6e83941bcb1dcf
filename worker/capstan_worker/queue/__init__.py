"""Taking work from the queue on Redis: the worker's side of `capstan_contract.queue`.

bell, own ends, a clock ──► room? ──► TAKE ──► engine ──► outbox ──► POST, all answers' pieces together
                             engine.room(), metrics              what was not taken yet, bounded
told ──► cancelled: the engine stops; a reader goes on: its pieces are posted again
RENEW, SWEEP by the clock
"""
