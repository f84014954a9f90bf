"""Engines: what runs the tasks of a user endpoint.

=====================================  ===========================================================
:mod:`mep.endpoint.engines.base`       the interface between a user endpoint and its engine
:mod:`mep.endpoint.engines.build`      from the ``engine:`` section of a configuration to an engine
:mod:`mep.endpoint.engines.settings`   that section, declared
:mod:`mep.endpoint.engines.plan`       what it comes down to: numbers, commands, environments
:mod:`mep.endpoint.engines.engine`     the engines, over :mod:`mep.endpoint.interchange`
=====================================  ===========================================================
"""
