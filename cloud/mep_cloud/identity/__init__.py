"""Who people are by the word of others: OIDC issuers, Globus Auth, the site's own accounts.

=================  ================================================================================
``settings``       the tables ``[identity]``, ``[oidc.NAME]``, ``[globus]`` and ``[pam]``
``person``         what a provider vouches for, and the ids that come of it: pure
``claims``         an issuer's claims as a person, by what is declared: pure
``introspection``  what Globus Auth tells of a token, as a person: pure
``pkce``           the authorization code grant: pure
``fetch``          bounded requests to a provider
``keys``           an issuer's signing keys: remembered, rotated, looked for at a bounded rate
``oidc``           an OIDC issuer: access tokens, and signing in with it
``globus``         Globus Auth: access tokens, and signing in with it
``pam``            the site's accounts by name and password; ``pam_child`` is the process that asks
``providers``      all that are configured, and whom a token of theirs speaks for
=================  ================================================================================

A provider speaks for ids and user names of its own alone: ids are derived from the provider's (or
are Globus Auth's own UUIDs, refused where they are somebody else's here), and each domain of user
names belongs to one provider.
"""
