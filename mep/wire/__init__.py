"""Every message that crosses a process boundary, and the one protocol number.

The warden's own messages are the exception: they live in :mod:`mep.root.messages`, because root
imports nothing else.

============================  ================================================================
:mod:`mep.wire.tasks`         task, result, failure: what all the links below carry
:mod:`mep.wire.codes`         the closed list of failure codes, and who they speak to
:mod:`mep.wire.limits`        sizes that every process enforces on what it receives
:mod:`mep.wire.codec`         msgpack in and out, bounded, with one error type
:mod:`mep.wire.to_manager`    relay <-> manager (WebSocket)
:mod:`mep.wire.to_endpoint`   relay <-> user endpoint (WebSocket)
:mod:`mep.wire.to_sdk`        relay <-> SDK (the WebSocket that streams results)
:mod:`mep.wire.rest`          SDK, CLI -> relay (HTTP bodies)
:mod:`mep.wire.frames`        user endpoint <-> node pool <-> worker; standard library only
:mod:`mep.wire.line`          numbers and acknowledgements below the frames, across a network
:mod:`mep.wire.strategies`    names and ids of serialization strategies; standard library only
:mod:`mep.wire.node`          how many workers a node has; standard library only
:mod:`mep.wire.handover`      warden -> user endpoint, the sealed memfd; standard library only
:mod:`mep.wire.events`        user endpoint -> manager, for the audit log
:mod:`mep.wire.allowed`       entries of allowed_functions; standard library only
:mod:`mep.wire.settings`      strict decoding of configuration files
============================  ================================================================

This module itself imports nothing, so that a node pool without msgspec can import the two
modules that it needs.
"""

PROTOCOL = 1
"""One integer for all links. A peer with another number is told so and disconnected.

History:

- 1 (2026-11): first release.
"""
