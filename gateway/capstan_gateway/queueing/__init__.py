"""Which way a request goes to its model, and the gateway's side of the durable queue (`capstan_contract.queue`).

    dispatcher   behind `routing.port.DispatchPort`: directly, or by the queue; the pipeline does not know which
    choice, urgency, inbox   pure: which way; how urgent, with which weight; what the pieces of an answer come to
    entry, answer   one request that waits, and its answer as its reader sees it
    line, reader    one model's queue, and the task that reads the answers of all its entries
    room            the queues of all models, their connections, and what is told of them every two seconds

Without a Redis, or while it does not answer, everything goes directly.
"""
