"""The runtime: what a node pool runs from on a machine that may not have our installation.

A runtime is :mod:`mep.worker` with what it imports, dill, and pyzmq for several Pythons; the Python
is the node's. The user endpoint takes it from its own installation, names it by its content, and
stages it once into a directory that the compute nodes see too, or makes one file of it that
travels with a job.

======================================  =======================================================
:mod:`mep.endpoint.runtime.contents`    which files it has
:mod:`mep.endpoint.runtime.pyzmq`       the pyzmqs among them: wheels, and the installed one
:mod:`mep.endpoint.runtime.stage`       a directory of them, made whole or not at all
:mod:`mep.endpoint.runtime.unused`      which of the older ones go (pure)
:mod:`mep.endpoint.runtime.command`     the command that finds it on a node (pure)
:mod:`mep.endpoint.runtime.runtime`     all of this for a provider of remote blocks
======================================  =======================================================

On the node ``start.sh`` chooses a Python, and :mod:`mep.worker.boot` the pyzmq for it. Blocks on
the endpoint's own machine need none of this.
"""
