"""Engines: what runs the tasks of a user endpoint.

==============================================  ==================================================
:mod:`mep.endpoint.engines.base`                the interface between a user endpoint and its engine
:mod:`mep.endpoint.engines.build`               from the ``engine:`` section to an engine
:mod:`mep.endpoint.engines.settings`            that section, declared
:mod:`mep.endpoint.engines.provider_settings`   its ``provider:``; beside it, those of
                                                schedulers, clouds and launchers
:mod:`mep.endpoint.engines.plan`                what it comes down to: numbers, commands
:mod:`mep.endpoint.engines.network_settings`    its part about transport, ports and addresses
:mod:`mep.endpoint.engines.transport`           how node pools reach the interchange
:mod:`mep.endpoint.engines.start_block`         a block's files, its start and its end
:mod:`mep.endpoint.engines.resources`           what a task may ask of one worker
:mod:`mep.endpoint.engines.mpi_settings`        checks of the MPI engine's settings
:mod:`mep.endpoint.engines.mpi_resources`       what a task may ask of nodes
:mod:`mep.endpoint.engines.engine`              the engines, over :mod:`mep.endpoint.interchange`
==============================================  ==================================================
"""
