"""The manager: the site's unprivileged process, account ``mep`` (or the owner's).

It keeps the link to the relay, passes starts to the warden and the warden's answers to the relay,
sends heartbeats, collects what users' processes report, and writes the status that ``mep status``
shows. It can ask root for nothing that the relay has not signed, so whoever takes it over can
speak for nobody.

============================  ================================================================
:mod:`mep.manager.config`     ``config.yaml``: every setting, declared once
:mod:`mep.manager.site`       what the manager reads from ``/etc/mep/NAME``, checked as a whole
:mod:`mep.manager.broker`     pure: messages in, messages out, what waits for a link that is down
:mod:`mep.manager.failures`   pure: what keeps ending at its start is left alone for a while
:mod:`mep.manager.sentences`  what people read when root refuses
:mod:`mep.manager.packets`    the manager's half of what is spoken with the warden
:mod:`mep.manager.warden`     the connection to the warden, kept open
:mod:`mep.manager.relay`      the link to the relay, kept open even after a refusal
:mod:`mep.manager.events`     what users' processes report: stamped, limited, written down
:mod:`mep.manager.status`     ``status.json``, and the memory of user endpoints
:mod:`mep.manager.notify`     readiness and state, to systemd or to ``mep start``
:mod:`mep.manager.service`    all of it together
============================  ================================================================

May import :mod:`mep.root.messages`, :mod:`mep.link`, :mod:`mep.wire`.
"""
