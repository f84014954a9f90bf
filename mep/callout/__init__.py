"""Who somebody is here: identity mapping, as ``mep-map``.

A program of one question: the warden's leaders run it (:mod:`mep.callout.__main__`) once per
start, as an account that owns nothing, in a session of its own, without privileges. What an
administrator writes (:mod:`mep.callout.mapping`, :mod:`mep.callout.pattern`) and what an external
command answers (:mod:`mep.callout.external`) is parsed here, and never by root. Root believes of
the answer that somebody of the identity set has an account, and lets its policy judge that.

Standard library only, started as ``python3 -I -S``; the program that asks LDAP directories
(:mod:`mep.callout.directory`) is another process, for it needs python-ldap.
"""
