"""The compute node: node pool and workers, as the user. Standard library, but for what is named.

==============================  ==================================================================
:mod:`mep.worker.pool`          entry of the node pool: forks the fork server, then imports zmq
:mod:`mep.worker.node`          the node pool: ZeroMQ to the interchange, tasks to the crew
:mod:`mep.worker.layout`        what each worker of a node gets: cores, accelerators, variables
:mod:`mep.worker.crew`          worker processes as the pool sees them
:mod:`mep.worker.deadlines`     the walltime of tasks
:mod:`mep.worker.threads`       the same for threads (``ThreadPoolEngine``)
:mod:`mep.worker.forkserver`    starts workers, reports how they ended; no ZeroMQ in its memory
:mod:`mep.worker.command`       starts workers by command, where another Python is wanted
:mod:`mep.worker.bundle`        the zip that such a worker runs from
:mod:`mep.worker.alone`         its entry
:mod:`mep.worker.worker`        the worker: takes tasks from its channel, runs one at a time
:mod:`mep.worker.execute`       one call, from bytes to bytes (dill, through :mod:`mep.payload`)
:mod:`mep.worker.begun`         a count of tasks handed out that outlives the pool
:mod:`mep.worker.tickets`       which of the tasks that lie at a worker it may begin
:mod:`mep.worker.channel`       messages on the socket between pool and worker
:mod:`mep.worker.recent`        the bounded memory of functions that both of them keep alike
==============================  ==================================================================

May import :mod:`mep.payload` and :mod:`mep.wire.frames`; the node pool also pyzmq and
:mod:`mep.wire.node`. What a worker needs of it (:data:`mep.worker.bundle.MODULES`) runs on Python
3.8 and newer.
"""
