"""Tables. Times are epoch seconds; ids are UUIDs as text; tokens appear as SHA-256 only."""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

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
)
"""People, and service clients (those with a client secret)."""

tokens = Table(
    "tokens",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=True),
    Column("endpoint_id", ForeignKey("endpoints.id"), nullable=True),
    Column("label", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=True),
)
"""A person's token names a user; a manager's link credential names an endpoint."""

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
"""A deleted function keeps its body: tasks that were accepted before still need it."""

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
)
"""`registration` is the body of the last (re-)registration, as JSON."""

user_endpoints = Table(
    "user_endpoints",
    metadata,
    Column("id", String, primary_key=True),
    Column("endpoint_id", ForeignKey("endpoints.id"), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("options", LargeBinary, nullable=False),
    Column("runtime", LargeBinary, nullable=False),
    Column("created", Float, nullable=False),
)

start_tokens = Table(
    "start_tokens",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("user_endpoint_id", ForeignKey("user_endpoints.id"), nullable=False, index=True),
    Column("nonce", String, nullable=False),
    Column("issued", Float, nullable=False),
    sqlite_autoincrement=True,
)
"""One row for each grant whose token may still connect, the newest with the highest `seq`."""

task_groups = Table(
    "task_groups",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", ForeignKey("users.id"), nullable=False),
    Column("created", Float, nullable=False),
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

tasks = Table(
    "tasks",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("task_id", String, nullable=False, unique=True),
    Column("group_id", ForeignKey("task_groups.id"), nullable=False, index=True),
    Column("owner", ForeignKey("users.id"), nullable=False),
    Column("function_id", ForeignKey("functions.id"), nullable=False),
    Column("user_endpoint_id", ForeignKey("user_endpoints.id"), nullable=False),
    Column("payload", LargeBinary, nullable=True),
    Column("payload_size", Integer, nullable=False),
    Column("resource_specification", LargeBinary, nullable=False),
    Column("result_serializers", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("cancel_requested", Float, nullable=True),
    Column("dispatched", Float, nullable=True),
    Column("began", Float, nullable=True),
    Column("ended", Float, nullable=True),
    Column("outcome", String, nullable=True),
    Column("result_seq", Integer, nullable=True),
    Column("result", LargeBinary, nullable=True),
    Column("failure_code", String, nullable=True),
    Column("failure_message", Text, nullable=True),
    Column("failure_traceback", Text, nullable=True),
    Column("acknowledged", Boolean, nullable=False, default=False),
    sqlite_autoincrement=True,
)
"""A task has ended once `outcome` is set; its arguments are dropped then."""

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
