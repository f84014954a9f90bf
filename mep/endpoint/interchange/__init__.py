"""The interchange: tasks to node pools, results back. A thread of the user endpoint's process.

=========================================  =======================================================
:mod:`mep.endpoint.interchange.events`     what the ledger is told, and what it asks for
:mod:`mep.endpoint.interchange.ledger`     every task's state; events in, instructions out; pure
:mod:`mep.endpoint.interchange.scheduler`  which pool gets the next task, by credit; pure
:mod:`mep.endpoint.interchange.waiting`    the queue, fair to task groups; pure
:mod:`mep.endpoint.interchange.blocks`     how many blocks there should be; pure
:mod:`mep.endpoint.interchange.timers`     what is due when; pure
:mod:`mep.endpoint.interchange.talk`       instructions to frames, frames to events; pure
:mod:`mep.endpoint.interchange.inbox`      commands from other threads
:mod:`mep.endpoint.interchange.router`     the socket
:mod:`mep.endpoint.interchange.loop`       socket, provider and clock around the pure parts
=========================================  =======================================================
"""
