"""Which task goes where, and when: the relay's state machine. No I/O; time is an argument.

Typed events go in (:mod:`.events`), instructions come out (:mod:`.instructions`); whoever carries
them out (:mod:`mep_cloud.hub`) reports back with further events. Every race is a unit test.

============  ==================================================================================
``machine``   :class:`~.machine.Delivery`: one event in, its instructions out
``state``     what is known of sites, user endpoints and tasks
``sites``     manager links: warden up and down, started, refused, exited, time-outs
``links``     user endpoint links: reconciliation, credits, results, leaving
``calls``     tasks: submitted, cancelled, failed, committed
``streams``   one SDK stream: which results of which groups it has been sent
============  ==================================================================================

Words: a *site* is a registered endpoint with its manager and warden; a *user endpoint* is one
person's process there; a *call* is one task that has not ended; a *link* is one open WebSocket.
"""
