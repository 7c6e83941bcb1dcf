"""The request queue on Redis: what gateways and workers agree on. Pure: names, wire format, and the scripts' text.

    gateway                                    Redis, all of one model in one slot                     worker
    ENQUEUE ──► entry:<id> ──► wait:<class>    sorted by virtual time: fair between tenants
                                    └────────► bell ──────────────────────────────────────────────► blocks on it
                                               work:<class>   a stream; consumer group `workers` ◄── TAKE
    reads   ◄── out:<gateway>    ◄──────────── a stream of answers, bounded for each request      ◄── POST
    ACK     ──► how much of an answer has been passed on: a worker that is too far ahead waits
    CANCEL  ──► told:<worker>    ──────────────────────────────────────────────────────────────────► blocks on it too
    BEAT    ──► alive            SWEEP drops what gateways left that are gone, and gives entries of
                                 workers that are gone to others                                  ◄── RENEW

Each script runs as a whole or not at all, in Redis' own time: no clock of a gateway or worker decides anything.
Fairness is start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996): a tenant's entry starts where its last one has
ended in virtual time, which goes on by tokens divided by the tenant's weight. It is what deficit round robin
approximates, takes O(log n) for an entry, and no tenant waits for a round of all others.

An answer is given once. An entry belongs to the worker that has taken it last; what another one says of it is refused.
Before its first piece has been posted an entry of a lost worker is taken by another one; behind it the gateway is told.
"""
