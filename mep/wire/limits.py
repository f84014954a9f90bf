"""Sizes that every process enforces on what it receives, in bytes unless named otherwise."""

PAYLOAD = 10 * 1024 * 1024
"""Serialized arguments of one task, and one serialized result: the hosted service's figure."""

INLINE = 1024 * 1024
"""Arguments and results above this travel by HTTP, apart from the messages that name them."""

BLOB = 1000 * 1024 * 1024
"""The most that a relay can be set to take for one task each way; workers pass 1 GiB at once."""

FUNCTION = 10 * 1024 * 1024
"""One serialized function."""

LINK_FRAME = 64 * 1024 * 1024
"""One WebSocket frame. Senders split batches well below it: see :data:`BATCH_BYTES`."""

BATCH_BYTES = 4 * 1024 * 1024
"""A sender closes a batch once it holds this much; a single larger task travels alone."""

BATCH_TASKS = 512
"""Tasks or results in one link frame."""

SUBMIT_TASKS = 10_000
"""Tasks in one REST submit."""

REQUEST = 64 * 1024 * 1024
"""One HTTP request body."""

SPECIFICATION = 16 * 1024
"""One ``resource_specification`` as JSON: each task carries it."""

START_PACKET = 128 * 1024
"""Grant, signature, options and runtime of one start together; the warden's packet size."""

USER_MESSAGE = 2000
"""A sentence shown to a user, in characters."""

FAILURE_TEXT = 64 * 1024
"""Traceback and stderr tail of one failed task, in characters."""
