"""The warden: everything that runs as root.

One process, single threaded (so that ``fork`` is safe), started as ``python3 -I -S``, standard
library and this package alone, no network socket, at most 700 lines of code: an auditor reads all
of it in one sitting. Start at :mod:`mep.root.messages`: what root can be asked is listed there.
Run by someone other than root it is a single-user endpoint's warden: the same code with the
mapping fixed to the owner and no privileges to drop.
"""
