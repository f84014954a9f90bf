"""Several relay processes on one PostgreSQL database; or one, on either database.

Each registered endpoint has one *home*: the process that delivers its tasks, with all of its user
endpoints. Any process takes requests and links; those of an endpoint that is at home elsewhere are
announced (NOTIFY) or handed on (:mod:`mep_cloud.sockets.pipe`). A home moves only when its process
has ended, so nothing needs to be agreed upon between two living ones.

=============  =================================================================================
``notes``      what processes tell each other
``teller``     makes notes and sends them
``seal``       shows that a process with the master credential wrote an address
``homes``      which endpoint is at home where, as far as this process knows (no I/O)
``census``     who lives, who is dead, who must be fenced off (no I/O)
``questions``  asks where tasks are that are at home elsewhere
``keeper``     takes endpoints in: one thing after the other, so that no task is taken in twice
``watch``      listens to notes, shows life, looks after the others
``peers``      how the others are known, and what their notes change in memory
``member``     :class:`~.member.Member`: one of several processes, as the rest of the relay sees it
``alone``      :class:`~.alone.Alone`: the same of the only process
=============  =================================================================================
"""
