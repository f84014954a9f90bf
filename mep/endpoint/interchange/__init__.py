"""The interchange: tasks to node pools, results back. A thread of the user endpoint's process.

=========================================  =======================================================
:mod:`mep.endpoint.interchange.events`     what the ledger is told, and what it asks for
:mod:`mep.endpoint.interchange.ledger`     every task's state; events in, instructions out; pure
:mod:`mep.endpoint.interchange.request`    what a task asks for
:mod:`mep.endpoint.interchange.too_much`   and whether a new block has that; pure
:mod:`mep.endpoint.interchange.dispatch`   the seam: waiting tasks and the room of pools
:mod:`mep.endpoint.interchange.slots`      the same where a task takes one worker; pure
:mod:`mep.endpoint.interchange.packing`    the same where a task takes whole nodes; pure
:mod:`mep.endpoint.interchange.backlog`    tasks that wait for nodes, by size and age; pure
:mod:`mep.endpoint.interchange.room`       the nodes of one block; pure
:mod:`mep.endpoint.interchange.scheduler`  which pool gets the next task, by credit; pure
:mod:`mep.endpoint.interchange.waiting`    the queue, fair to task groups; pure
:mod:`mep.endpoint.interchange.blocks`     how many blocks there should be; pure
:mod:`mep.endpoint.interchange.peers`      who the node pools are, and which are silent; pure
:mod:`mep.endpoint.interchange.receipts`   results that are on disk, told to pools that wait for it
:mod:`mep.endpoint.interchange.timers`     what is due when; pure
:mod:`mep.endpoint.interchange.talk`       instructions to frames, frames to events; pure
:mod:`mep.endpoint.interchange.inbox`      commands from other threads
:mod:`mep.endpoint.interchange.network`    keys, address and port for node pools on other machines
:mod:`mep.endpoint.interchange.addresses`  of this machine, and listening at one
:mod:`mep.endpoint.interchange.zap`        who may connect, and as which block
:mod:`mep.endpoint.interchange.lines`      the socket to other machines
:mod:`mep.endpoint.interchange.noise`      trouble with peers: counted, logged at a bounded rate
:mod:`mep.endpoint.interchange.slow_curve` whether encryption is as fast as it can be
:mod:`mep.endpoint.interchange.router`     the socket to node pools on this machine
:mod:`mep.endpoint.interchange.block_keeper` starts, drains and ends blocks, as ``blocks`` says
:mod:`mep.endpoint.interchange.loop`       socket, provider and clock around the pure parts
=========================================  =======================================================
"""
