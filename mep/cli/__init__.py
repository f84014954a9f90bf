"""``mep``: every verb of the command line, run by whoever types it.

Each verb is imported when it is asked for, so that ``mep --help`` is quick and a machine without
the endpoint's packages still has ``mep login``.

=========================  ===================================================================
:mod:`mep.cli.__main__`    the table of verbs; the one place that exits
:mod:`mep.cli.errors`      what goes wrong, as sentences, and exit statuses
:mod:`mep.cli.site`        every path of an endpoint, for root and for anyone else
:mod:`mep.cli.files`       files replaced as a whole, and read from places that others write
:mod:`mep.cli.accounts`    the service's own accounts
:mod:`mep.cli.tables`      tables on the terminal
:mod:`mep.cli.relay`       the few HTTP requests of an administrator
:mod:`mep.cli.processes`   argv and environment of warden and manager; which process is which
:mod:`mep.cli.users`       users' processes, from the warden's records
:mod:`mep.cli.listener`    the warden's socket, where systemd does not make it
:mod:`mep.cli.supervisor`  both of them, kept running in the foreground or detached
=========================  ===================================================================

The other modules are verbs. May import any other part, lazily.
"""
