"""The warden: everything that runs as root.

One process, single threaded (so that ``fork`` is safe), started as ``python3 -I -S``, standard
library and this package alone, no network socket, at most 700 lines of code: an auditor reads all
of it in one sitting. In this order:

:mod:`mep.root.messages`   what root can be asked: two requests; and the four things it says
:mod:`mep.root.warden`     the event loop: one peer, its requests, and the leaders they lead to
:mod:`mep.root.grant`      believing the relay: signature, shape, freshness, replay
:mod:`mep.root.leader`     a fork per user endpoint: who is it, may he, the user's process, its end
:mod:`mep.root.pam`        account, credentials and session, as at a login
:mod:`mep.root.become`     dropping privileges, and the proof; asking ``mep.callout`` who it is
:mod:`mep.root.policy`     ``policy.toml`` (declared in the file beside it), and who is served
:mod:`mep.root.children`   records of what runs, so that it outlives us
:mod:`mep.root.files`      reading files that nobody else can have written
:mod:`mep.root.refusal`    why something is not done; the audit log
:mod:`mep.root.__main__`   the command line

Run by someone other than root it is a single-user endpoint's warden: the same code with the
mapping fixed to the owner and no privileges to drop. Two things that could be here are not, since
they need no privilege: mapping documents are parsed and matched by ``mep.callout``, as an account
of its own; and the user's home is entered by ``mep/endpoint/launch.py``, as the user.
"""
