"""MEP: a self-hosted multi-user function service for HPC sites.

A folder is a process, and its name tells the uid it runs with:

==================  =======================  ===================================================
``mep.root``        uid 0                    the warden: verify, drop privileges, exec, reap
``mep.callout``     ``mep-map``              external and LDAP identity look-ups
``mep.manager``     ``mep``                  the site's link to the relay, heartbeats, events
``mep.endpoint``    the mapped user          user endpoint: template, relay link, interchange
``mep.worker``      the mapped user          node pool and workers
``mep.cli``         whoever types ``mep``    every verb of the command line
==================  =======================  ===================================================

Shared by several of them: :mod:`mep.wire` (every message that crosses a process boundary),
:mod:`mep.link` (the outbound WebSocket), :mod:`mep.payload` (serialized functions and data) with
:mod:`mep.bytecode`, :mod:`mep.shell` (shell commands as functions), :mod:`mep.sources` (files of
this installation that travel).
Who may import whom is held by import-linter, see ``pyproject.toml``.
"""

__version__ = "0.1.0"
