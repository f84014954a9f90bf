"""The relay: REST and WebSockets between laptops and sites. Runs as an unprivileged service user.

====================  ==========================================================================
``app``               the route table: everything that can be asked over HTTP or WebSocket
``rest/``             HTTP handlers, one module for each resource
``sockets/``          the three WebSockets: manager, user endpoint, SDK stream
``auth``              bearer tokens to principals; a token is stored as its SHA-256 only
``identity/``         people by the word of others: OIDC issuers, Globus Auth, PAM
``hub``               carries out what ``delivery`` decides: sends, commits, signs
``delivery/``         queues, credits, acknowledgements, start requests: no I/O, time is an argument
``store/``            SQLAlchemy Core over SQLite: one writer with group commit, readers beside it
``grants``            canonical JSON, key derivation and signatures of starts
``settings/``         ``relay.toml``: each table a module
``home``              the data directory: database and master credential
``cli/``, ``serve``   ``mep-relay``: set-up verbs, and the server process
====================  ==========================================================================

May import :mod:`mep.wire` and nothing else of the project. Task payloads are opaque here.
"""
