"""The user endpoint: one process per user and configuration, running as the mapped user.

Started after the drop, with the sealed memory file at descriptor 3 and its way to tell root why it
ends at descriptor 4. It renders the administrator's template, starts an engine, opens its own link
to the relay, takes tasks, and keeps every result on disk until the relay has acknowledged it.

================================  =============================================================
:mod:`mep.endpoint.__main__`      descriptors 3 and 4, exit status; the only place that exits
:mod:`mep.endpoint.start`         from a handover to a configuration: the steps before any task
:mod:`mep.endpoint.template`      options and template to plain data; confined values
:mod:`mep.endpoint.config`        the settings, declared once
:mod:`mep.endpoint.app`           the running endpoint: engine, link, journal put together
:mod:`mep.endpoint.custody`       which tasks are here and how far they are (pure)
:mod:`mep.endpoint.returns`       results: spooled, sent, forgotten
:mod:`mep.endpoint.audit`         what is told of tasks; ``happenings`` are its events (pure)
:mod:`mep.endpoint.relay`         the link: batches, credits, resending
:mod:`mep.endpoint.journal`       the ledger and result spool on disk
:mod:`mep.endpoint.inheritance`   what to do with the tasks of a process that died (pure)
:mod:`mep.endpoint.runtime`       what node pools need elsewhere: found, staged, carried
:mod:`mep.endpoint.idle`          when to leave (pure)
:mod:`mep.endpoint.engines`       what runs tasks; ``interchange`` and ``providers`` below it
================================  =============================================================

May import :mod:`mep.link` and :mod:`mep.wire`. Cold start is on every user's clock, so heavy
modules (jinja2, yaml, jsonschema, asyncio, websockets, zmq) are imported where they are used.
"""
