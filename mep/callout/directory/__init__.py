"""``ldap_identity_mapping#1.0.0``: an LDAP directory says who somebody is.

A program of its own (:mod:`mep.callout.directory.__main__`), run once for each question: by
:mod:`mep.callout.external` for the documents of a mapping file, or by other software that speaks
``external_identity_mapping#1.0.0``. It needs python-ldap, of this installation or of the
distribution's ``/usr/bin/python3``; so these modules run on Python 3.9.

=================================  ==============================================================
:mod:`~mep.callout.directory.document`  what an administrator writes
:mod:`~mep.callout.directory.search`    servers in turn, and the one entry that a filter finds
:mod:`~mep.callout.directory.cache`     what was found a moment ago
:mod:`~mep.callout.directory.secret`    the password file
=================================  ==============================================================
"""
