"""Providers: where blocks come from. :mod:`mep.endpoint.providers.base` says how.

This version has :mod:`mep.endpoint.providers.local`: processes on this machine.
"""
