"""Engines: what runs the tasks of a user endpoint. :mod:`mep.endpoint.engines.base` says how."""
