"""Arguments and results too large for the database: files, streamed in and out.

=====================  ============================================================================
:mod:`.directory`      where the files are, and how they get on the disk
:mod:`.keeper`         uploads: quota, hash and size, and what becomes of them
=====================  ============================================================================

A file belongs to one row of the table ``blobs``, which is written before the file and removed after
it, and says whether the file is whole, whose it is, and whether a task needs it. Names are never
used twice and files never change, so that several relay processes can share one directory: the
database orders what they do.
"""
