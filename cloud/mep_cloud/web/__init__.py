"""The relay's few pages: sign in, and approve the login of a terminal.

Plain HTML without scripts. :mod:`.html` makes pages, :mod:`.browser` knows who is signed in and
whether a form is ours, :mod:`.pages` has the handlers, :mod:`.elsewhere` those of signing in with
an OIDC issuer, whose way there and back :mod:`.journey` keeps together.
"""
