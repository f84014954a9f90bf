"""Providers: where blocks come from. :mod:`mep.endpoint.providers.base` says how.

=======================================  =========================================================
:mod:`mep.endpoint.providers.local`      processes on this machine
:mod:`mep.endpoint.providers.batch`      jobs of a batch system, in a thread of its own
:mod:`mep.endpoint.providers.scheduler`  Parsl's provider of one batch system
:mod:`mep.endpoint.providers.commands`   the scheduler's commands, run to their end
:mod:`mep.endpoint.providers.words`      their answers, read
:mod:`mep.endpoint.providers.delivery`   how settings and node pool come to the nodes
:mod:`mep.endpoint.providers.pods`       Kubernetes' interface, as Parsl is given it; Secrets
:mod:`mep.endpoint.providers.jobs`       when a job counts as ended
:mod:`mep.endpoint.providers.pace`       when to ask next
:mod:`mep.endpoint.providers.records`    job ids on disk
=======================================  =========================================================
"""
