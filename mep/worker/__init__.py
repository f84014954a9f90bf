"""The compute node: node pool and workers, as the user. Standard library, but for what is named.

==============================  ==================================================================
:mod:`mep.worker.pool`          entry of the node pool: forks the fork server, then connects
:mod:`mep.worker.boot`          its entry on a machine without our installation, from a runtime
:mod:`mep.worker.node`          the node pool: tasks from the interchange to the crew
:mod:`mep.worker.settings`      what a node pool is told at its start
:mod:`mep.worker.upstream`      the node pool's connection, of one of two kinds:
:mod:`mep.worker.beside`        the interchange is on the same machine
:mod:`mep.worker.connect`       it is across a network
:mod:`mep.worker.probe`         which of the endpoint's addresses answers
:mod:`mep.worker.names`         host names to addresses
:mod:`mep.worker.elsewhere`     its directory where no file system is shared with the endpoint
:mod:`mep.worker.lease`         until when it may begin tasks, by the interchange's answers (pure)
:mod:`mep.worker.job`           what the batch job tells of its end
:mod:`mep.worker.layout`        what each worker of a node gets: cores, accelerators, variables
:mod:`mep.worker.crew`          worker processes as the pool sees them: who is idle, who ended
:mod:`mep.worker.member`        one of them: what it has been given
:mod:`mep.worker.endings`       how tasks end that no worker finished, in words
:mod:`mep.worker.poll`          what the pool waits for
:mod:`mep.worker.deadlines`     the walltime of tasks
:mod:`mep.worker.threads`       the same for threads (``ThreadPoolEngine``)
:mod:`mep.worker.forkserver`    what starts workers and reports how they ended, from outside
:mod:`mep.worker.server`        the same from inside: no ZeroMQ in its memory
:mod:`mep.worker.memory`        limits of memory, and whether one was hit
:mod:`mep.worker.containers`    the commands of container runtimes (pure)
:mod:`mep.worker.contained`     a fork server in a container, as the pool sees it
:mod:`mep.worker.inside`        its first steps there
:mod:`mep.worker.account`       what functions expect in their environment (pure)
:mod:`mep.worker.command`       starts workers by command, where another Python is wanted
:mod:`mep.worker.bundle`        the zip that such a worker runs from
:mod:`mep.worker.alone`         its entry
:mod:`mep.worker.worker`        the worker: takes tasks from its channel, runs one at a time
:mod:`mep.worker.execute`       one call, from bytes to bytes (dill, through :mod:`mep.payload`)
:mod:`mep.worker.spread`        tasks that have nodes of a block: variables, ends
:mod:`mep.worker.launchers`     prefixes of MPI launchers (pure)
:mod:`mep.worker.job_nodes`     the nodes of a batch job (pure)
:mod:`mep.worker.sweep`         ends what launchers have left on some nodes
:mod:`mep.worker.begun`         which tasks may have begun, in a file that outlives the pool
:mod:`mep.worker.tickets`       which of the tasks that lie at a worker it may begin
:mod:`mep.worker.untold`        what has begun and has not been told of (pure)
:mod:`mep.worker.channel`       messages on the socket between pool and worker
:mod:`mep.worker.recent`        the bounded memory of functions that both of them keep alike
==============================  ==================================================================

May import :mod:`mep.payload` and :mod:`mep.wire.frames`; the node pool also pyzmq,
:mod:`mep.wire.node` and :mod:`mep.sources`. What a worker needs of it
(:data:`mep.worker.bundle.MODULES`) runs on Python 3.8 and newer.
"""
