"""The other relay processes: how they are known, and what their notes change here."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from mep.wire.tasks import StateChange
from mep_cloud.auth import Gatekeeper
from mep_cloud.cluster import notes
from mep_cloud.errors import HomeError
from mep_cloud.hooks.sender import Sender
from mep_cloud.memory import Droppable
from mep_cloud.publisher import Publisher
from mep_cloud.settings import Cluster
from mep_cloud.streams import Streams


def context(cluster: Cluster) -> ssl.SSLContext:
    """A context that verifies the certificates of other relay processes.

    Raises:
        HomeError: the CA file cannot be used.
    """
    made = ssl.create_default_context()
    if cluster.ca_file:
        try:
            made.load_verify_locations(cluster.ca_file)
        except (OSError, ssl.SSLError) as error:
            message = f"ca_file of [cluster], {cluster.ca_file}, cannot be used: {error}."
            raise HomeError(message) from error
    return made


@dataclass(frozen=True, slots=True)
class Hearing:
    """What this process streams and remembers, which others change."""

    publisher: Publisher
    gatekeeper: Gatekeeper
    streams: Streams
    sender: Sender
    memories: Mapping[str, Droppable]
    """By the name that notes have for them."""

    def heard(self, note: notes.AnyNote) -> None:
        """Another process did something."""
        match note:
            case notes.Ended(_, group_ids):
                self.publisher.elsewhere(group_ids)
            case notes.Moved(_, group_id, moves):
                changes = tuple(StateChange(each.task_id, each.state, each.at) for each in moves)
                self.publisher.states(group_id, changes)
            case notes.Revoked(_, families, hashes):
                self.gatekeeper.drop_all()
                self.streams.end((*families, *hashes))
            case notes.Forget(_, "tokens"):
                self.gatekeeper.drop_all()
            case notes.Forget(_, "webhooks"):
                self.sender.changed()
            case notes.Forget(_, memory, key):
                self.memories[memory].drop(key)
