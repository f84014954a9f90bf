"""Failure codes: the closed list that links, REST errors and exceptions share.

A code names *what* went wrong; the sentence beside it is written for the person who reads it.
Codes are never renamed once released: scripts compare them.
"""

from typing import Final

# A start that the site refused (warden; the waiting tasks fail with it).
IDENTITY_NOT_MAPPED: Final = "IDENTITY_NOT_MAPPED"
"""No mapping rule yields an account for any identity of the set."""
ACCOUNT_UNKNOWN: Final = "ACCOUNT_UNKNOWN"
"""The mapped name is no account on this machine."""
ACCOUNT_REFUSED: Final = "ACCOUNT_REFUSED"
"""``policy.toml`` does not let this account be served (uid too low, root, denied group...)."""
ACCOUNT_SHARED: Final = "ACCOUNT_SHARED"
"""The account already serves another person, and ``shared_accounts`` does not name it."""
GRANT_REFUSED: Final = "GRANT_REFUSED"
"""The relay's signature, freshness, nonce or boot id does not hold."""
START_LIMIT: Final = "START_LIMIT"
"""Too many starts: rate, total, or leaders in flight."""
START_FAILED: Final = "START_FAILED"
"""The process could not be started (home directory, exec, time-out)."""

# A user endpoint that started and refused its configuration (it exits; the tasks fail).
OPTIONS_REFUSED: Final = "OPTIONS_REFUSED"
"""``user_endpoint_config`` against the administrator's schema: pointer, value, rule."""
TEMPLATE_FAILED: Final = "TEMPLATE_FAILED"
"""The administrator's template does not render, or renders to something that is no YAML."""
CONFIG_REFUSED: Final = "CONFIG_REFUSED"
"""The rendered configuration has an unknown key or a value of the wrong type."""
ENGINE_FAILED: Final = "ENGINE_FAILED"
"""The engine could not be brought up."""

# A task that ended badly.
USER_EXCEPTION: Final = "USER_EXCEPTION"
"""The function itself raised; the exception travels with the result."""
WORKER_LOST: Final = "WORKER_LOST"
"""The process that ran the task died; node, exit status and signal are in the message."""
WALLTIME_EXCEEDED: Final = "WALLTIME_EXCEEDED"
"""The task was ended after the time that the endpoint gives each."""
ENDPOINT_LOST: Final = "ENDPOINT_LOST"
"""The user endpoint died after the task had started and may not run it again."""
DESERIALIZATION_FAILED: Final = "DESERIALIZATION_FAILED"
"""The worker cannot load the function or its arguments."""
ENVIRONMENT_MISMATCH: Final = "ENVIRONMENT_MISMATCH"
"""The worker cannot load the function because it is of another Python version."""
SERIALIZATION_FAILED: Final = "SERIALIZATION_FAILED"
"""The function returned something that cannot be serialized."""
RESULT_TOO_LARGE: Final = "RESULT_TOO_LARGE"
"""The serialized result exceeds the limit."""
RESOURCES_REFUSED: Final = "RESOURCES_REFUSED"
"""``resource_specification`` asks for what the endpoint's engine does not have."""
CANCELLED: Final = "CANCELLED"
FUNCTION_NOT_PERMITTED: Final = "FUNCTION_NOT_PERMITTED"
"""``allowed_functions`` does not name the function."""

# A REST request that the relay refused. The spellings are the Globus Compute web API's.
TASK_PAYLOAD_TOO_LARGE: Final = "TASK_PAYLOAD_TOO_LARGE"
FUNCTION_NOT_FOUND: Final = "FUNCTION_NOT_FOUND"
FUNCTION_ACCESS_FORBIDDEN: Final = "FUNCTION_ACCESS_FORBIDDEN"
ENDPOINT_NOT_FOUND: Final = "ENDPOINT_NOT_FOUND"
ENDPOINT_ACCESS_FORBIDDEN: Final = "ENDPOINT_ACCESS_FORBIDDEN"
TASK_NOT_FOUND: Final = "TASK_NOT_FOUND"
TASK_GROUP_NOT_FOUND: Final = "TASK_GROUP_NOT_FOUND"
USER_UNAUTHENTICATED: Final = "USER_UNAUTHENTICATED"
ADMIN_REQUIRED: Final = "ADMIN_REQUIRED"
INVALID_REQUEST: Final = "REQUEST_MALFORMED"
INVALID_UUID: Final = "INVALID_UUID"
NOT_FOUND: Final = "NOT_FOUND"
INTERNAL_ERROR: Final = "INTERNAL_ERROR"
"""A fault of the relay's own (500), or it is restarting (503)."""
