"""Tables. Times are epoch seconds; ids are UUIDs as text; tokens appear as SHA-256 only.

A change here needs a migration: see :mod:`mep_cloud.store.migrations`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    String,
    Table,
    Text,
)

metadata = MetaData()

_Count = BigInteger().with_variant(Integer, "sqlite")
"""Integers of SQLite have 64 bits anyway, and only one of this name can count by itself."""

settings = Table(
    "settings",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", String, primary_key=True),
    Column("username", String, nullable=False, unique=True),
    Column("name", Text, nullable=False, default=""),
    Column("email", Text, nullable=False, default=""),
    Column("organization", Text, nullable=False, default=""),
    Column("is_admin", Boolean, nullable=False),
    Column("client_secret_hash", LargeBinary, nullable=True),
    Column("created", Float, nullable=False),
    Column("provider", String, nullable=True),
    Column("identity_set", Text, nullable=True),
    Column("claimed_groups", Text, nullable=True),
    Column("name_key", String, nullable=True, index=True),
)
"""People, and service clients (those with a client secret).

`name_key` is what no two user names shall have in common, :func:`.person.name_key`. `provider`
vouches for somebody who is not the relay's own; identity records and names of groups are what it
last told, as JSON."""

tokens = Table(
    "tokens",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=True),
    Column("endpoint_id", ForeignKey("endpoints.id"), nullable=True),
    Column("label", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=True, index=True),
    Column("kind", String, nullable=False, default="access", server_default="access"),
    Column("family", String, nullable=True, index=True),
    Column("signed_in", Float, nullable=True),
    Column("used", Float, nullable=True),
    Column("proved", String, nullable=True),
)
"""A person's token names a user; a manager's link credential names an endpoint.

`kind` is ``access`` or ``refresh``; what one login led to is a `family`, and ends together.
`signed_in`: when the person proved who they are, by the identity `proved` (none: the user's own);
`used`: when a refresh token was exchanged.
"""

ended_tokens = Table(
    "ended_tokens",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("expires", Float, nullable=False, index=True),
)
"""Tokens of other issuers that were revoked here, until they expire by themselves."""

policies = Table(
    "policies",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", Text, nullable=False),
    Column("allowed_domains", Text, nullable=False),
    Column("excluded_domains", Text, nullable=False),
    Column("provider", String, nullable=True),
    Column("session_s", Float, nullable=True),
)
"""Authentication policies; domains are joined by commas."""

passwords = Table(
    "passwords",
    metadata,
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("hash", String, nullable=False),
    Column("changed", Float, nullable=False),
)

device_codes = Table(
    "device_codes",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("user_code", String, nullable=False, unique=True),
    Column("client_id", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False, index=True),
    Column("interval", Float, nullable=False),
    Column("polled", Float, nullable=True),
    Column("denied", Boolean, nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=True),
    Column("signed_in", Float, nullable=True),
    Column("proved", String, nullable=True),
)
"""Logins on their way (RFC 8628): `user_id` is whoever approved."""

web_sessions = Table(
    "web_sessions",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("signed_in", Float, nullable=False),
    Column("expires", Float, nullable=False, index=True),
    Column("proved", String, nullable=True),
)
"""People signed in on the login page, by their cookie."""

functions = Table(
    "functions",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", ForeignKey("users.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),
    Column("description", Text, nullable=True),
    Column("public", Boolean, nullable=False),
    Column("group_id", String, nullable=True),
    Column("ha_endpoint_id", String, nullable=True),
    Column("meta", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("deleted", Float, nullable=True),
)
"""A deleted function keeps its body as long as tasks that were accepted before may need it, and its
row for ever: no other function gets its id. `size` is 0 once the body is gone.
"""

_deleted_body = functions.c.deleted.is_not(None) & (functions.c.size > 0)
Index(
    "functions_deleted",
    functions.c.deleted,
    sqlite_where=_deleted_body,
    postgresql_where=_deleted_body,
)
Index(
    "functions_public",
    functions.c.created,
    sqlite_where=functions.c.public.is_(True),
    postgresql_where=functions.c.public.is_(True),
)
Index("functions_owner", functions.c.owner, functions.c.created)
Index("functions_group", functions.c.group_id, functions.c.created)

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", ForeignKey("users.id"), nullable=False),
    Column("multi_user", Boolean, nullable=False),
    Column("public", Boolean, nullable=False),
    Column("registration", Text, nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("deleted", Float, nullable=True),
    Column("locked_until", Float, nullable=True),
)
"""`registration` is the body of the last (re-)registration, as JSON; `public` is the operator's."""

endpoint_viewers = Table(
    "endpoint_viewers",
    metadata,
    Column("endpoint_id", ForeignKey("endpoints.id"), primary_key=True),
    Column("principal", String, primary_key=True, index=True),
)
"""Users and groups that an endpoint is listed for, from its registration."""

groups = Table(
    "groups",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("created", Float, nullable=False),
)

group_members = Table(
    "group_members",
    metadata,
    Column("group_id", ForeignKey("groups.id"), primary_key=True),
    Column("user_id", ForeignKey("users.id"), primary_key=True, index=True),
    Column("role", String, nullable=False),
)
"""`role` is ``member`` or ``manager``."""

endpoint_presence = Table(
    "endpoint_presence",
    metadata,
    Column("endpoint_id", ForeignKey("endpoints.id"), primary_key=True),
    Column("last_heartbeat", Float, nullable=False),
    Column("version", Text, nullable=False),
    Column("python", Text, nullable=False),
    Column("hostname", Text, nullable=False),
)
"""What an endpoint's manager last said of itself. Apart from `endpoints`, which are read more often
than this is written."""

user_endpoints = Table(
    "user_endpoints",
    metadata,
    Column("id", String, primary_key=True),
    Column("endpoint_id", ForeignKey("endpoints.id"), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("options", LargeBinary, nullable=False),
    Column("runtime", LargeBinary, nullable=False),
    Column("created", Float, nullable=False),
    Column("used", Float, nullable=False, default=0.0, server_default="0", index=True),
)
"""`used`: see :mod:`mep_cloud.store.parents`; the same in `task_groups`."""

start_tokens = Table(
    "start_tokens",
    metadata,
    Column("seq", _Count, primary_key=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("user_endpoint_id", ForeignKey("user_endpoints.id"), nullable=False, index=True),
    Column("nonce", String, nullable=False),
    Column("issued", Float, nullable=False),
    sqlite_autoincrement=True,
)
"""One row for each grant whose token may still connect, the newest with the highest `seq`."""

containers = Table(
    "containers",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", ForeignKey("users.id"), nullable=False),
    Column("container_type", String, nullable=False),
    Column("location", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("created", Float, nullable=False),
)
"""Images that people gave an id."""

task_groups = Table(
    "task_groups",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", ForeignKey("users.id"), nullable=False),
    Column("created", Float, nullable=False),
    Column("used", Float, nullable=False, default=0.0, server_default="0", index=True),
)

submits = Table(
    "submits",
    metadata,
    Column("owner", ForeignKey("users.id"), primary_key=True),
    Column("request_id", String, primary_key=True),
    Column("answer", LargeBinary, nullable=False),
    Column("created", Float, nullable=False, index=True),
)
"""What was answered to a submit that names itself, so that repeating it does nothing twice."""

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", ForeignKey("users.id"), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("task_group_id", String, nullable=True),
    Column("created", Float, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", Float, nullable=False, default=0.0),
    Column("claimed_until", Float, nullable=False, default=0.0),
    Column("sending_to", _Count, nullable=True),
    Column("last_outcome", Text, nullable=False, default=""),
    Column("delivered", Integer, nullable=False, default=0),
    Column("dropped", Integer, nullable=False, default=0),
)
"""Whom to tell of ended tasks: of one task group, or of all of the owner. The secret is derived.

`attempts` failed in a row, the next not before `next_at`; a request is under way until
`claimed_until` at most, with the news up to `sending_to`, which a repetition has too."""

webhook_news = Table(
    "webhook_news",
    metadata,
    Column("seq", _Count, primary_key=True),
    Column("webhook_id", String, nullable=False),
    Column("task_id", String, nullable=False),
    Column("task_group_id", String, nullable=False),
    Column("state", String, nullable=False),
    Column("ended", Float, nullable=False),
    Column("created", Float, nullable=False),
    Index("webhook_news_queue", "webhook_id", "seq"),
    sqlite_autoincrement=True,
)
"""Written in the transaction that ends a task, so it refers to nothing that could have gone."""

actions = Table(
    "actions",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", ForeignKey("users.id"), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("label", Text, nullable=True),
    Column("monitor_by", Text, nullable=False),
    Column("manage_by", Text, nullable=False),
    Column("release_after", Text, nullable=False),
    Column("task_group_id", String, nullable=False),
    Column("task_ids", Text, nullable=False),
    Column("created", Float, nullable=False),
)
"""Runs of functions by the action provider's API; the id is derived from owner and request."""

tasks = Table(
    "tasks",
    metadata,
    Column("seq", _Count, primary_key=True),
    Column("task_id", String, nullable=False, unique=True),
    Column("group_id", ForeignKey("task_groups.id"), nullable=False, index=True),
    Column("owner", ForeignKey("users.id"), nullable=False),
    Column("function_id", ForeignKey("functions.id"), nullable=False),
    Column("user_endpoint_id", ForeignKey("user_endpoints.id"), nullable=False, index=True),
    Column("payload", LargeBinary, nullable=True),
    Column("payload_size", Integer, nullable=False),
    Column("resource_specification", LargeBinary, nullable=False),
    Column("result_serializers", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("cancel_requested", Float, nullable=True),
    Column("dispatched", Float, nullable=True),
    Column("waited", Float, nullable=True),
    Column("began", Float, nullable=True),
    Column("ended", Float, nullable=True),
    Column("outcome", String, nullable=True),
    Column("result_seq", _Count, nullable=True),
    Column("result", LargeBinary, nullable=True),
    Column("failure_code", String, nullable=True),
    Column("failure_message", Text, nullable=True),
    Column("failure_traceback", Text, nullable=True),
    Column("acknowledged", Boolean, nullable=False, default=False),
    Column("payload_blob", LargeBinary, nullable=True),
    Column("result_blob", LargeBinary, nullable=True),
    sqlite_autoincrement=True,
)
"""A task has ended once `outcome` is set; its arguments are dropped then.

`payload_blob` and `result_blob` are encoded :class:`mep.wire.tasks.Blob`, in the place of `payload`
and `result`."""

blobs = Table(
    "blobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", ForeignKey("users.id"), nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("size", _Count, nullable=False),
    Column("sha256", String, nullable=True),
    Column("task_id", String, nullable=True, index=True),
    Column("created", Float, nullable=False),
    Column("free", Float, nullable=True, index=True),
)
"""One row for each file of large arguments (`kind` is ``arguments``) or a large result
(``result``), written before the file is made and removed after it. `sha256` is set once it is
complete and on disk. After `free` it may be removed; a task needs one where that is empty.
"""

expired_tasks = Table(
    "expired_tasks",
    metadata,
    Column("task_id", String, primary_key=True),
    Column("seq", _Count, nullable=False),
    Column("group_id", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("ended", Float, nullable=False, index=True),
    Column("outcome", String, nullable=False),
    Column("result_seq", _Count, nullable=True),
)
"""Tasks that ended so long ago that their results were dropped. `result_seq` is that of a result
that nobody had fetched.
"""
Index("expired_tasks_of_group", expired_tasks.c.group_id, expired_tasks.c.result_seq)

processes = Table(
    "processes",
    metadata,
    Column("number", _Count, primary_key=True),
    Column("url", Text, nullable=False),
    Column("seal", LargeBinary, nullable=False),
    Column("beat", Float, nullable=False),
)
"""Relay processes that serve this database together. A row's process holds the advisory lock of its
number for as long as it can write; `beat` is the server's clock when it last showed life. `seal` is
made from `url` with the master credential: who can write here cannot send links elsewhere."""

homes = Table(
    "homes",
    metadata,
    Column("endpoint_id", ForeignKey("endpoints.id"), primary_key=True),
    Column(
        "process", ForeignKey("processes.number", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("manager", Boolean, nullable=False),
    Column("warden", Boolean, nullable=False),
)
"""Which process delivers an endpoint's tasks, and whether manager and warden are connected."""

result_places = Sequence("result_places", metadata=metadata)
"""Places in the order of commits, where several processes share it; PostgreSQL only."""

Index(
    "tasks_unfinished",
    tasks.c.seq,
    sqlite_where=tasks.c.outcome.is_(None),
    postgresql_where=tasks.c.outcome.is_(None),
)
_unacknowledged = tasks.c.outcome.is_not(None) & tasks.c.acknowledged.is_(False)
Index(
    "tasks_unacknowledged",
    tasks.c.group_id,
    tasks.c.result_seq,
    sqlite_where=_unacknowledged,
    postgresql_where=_unacknowledged,
)

# What lists and revocations look for; without these, each would read a whole table.
Index("endpoints_owner", endpoints.c.owner)
Index("task_groups_owner", task_groups.c.owner, task_groups.c.created)
Index(
    "endpoints_public",
    endpoints.c.created,
    sqlite_where=endpoints.c.public.is_(True),
    postgresql_where=endpoints.c.public.is_(True),
)
Index(
    "endpoints_deleted",
    endpoints.c.deleted,
    sqlite_where=endpoints.c.deleted.is_not(None),
    postgresql_where=endpoints.c.deleted.is_not(None),
)
Index("actions_created", actions.c.created)
Index("tokens_user", tokens.c.user_id)
Index("tokens_endpoint", tokens.c.endpoint_id)
Index(
    "expired_tasks_order",
    expired_tasks.c.result_seq,
    sqlite_where=expired_tasks.c.result_seq.is_not(None),
    postgresql_where=expired_tasks.c.result_seq.is_not(None),
)
