"""What can go wrong between us and the server, as the rest of Headgate catches it."""

from __future__ import annotations


class StreamsError(Exception):
    """Something the streams layer was asked for cannot be done."""


class ServerUnavailableError(StreamsError):
    """The server cannot be reached, or refused us; says which and why. Whatever was asked may be asked again."""


class ServerRefusedError(ServerUnavailableError):
    """The server is there and refuses until somebody changes something: a login, a right, a certificate, memory."""


class DeniedError(StreamsError):
    """A script ran into a command its user may not run. What it wrote before stays, so it is not asked again."""


class NotProvisionedError(StreamsError):
    """The branch has no consumer group here: not provisioned yet, lost with a flush, or removed."""


class LeaseLostError(StreamsError):
    """This consumer was declared dead and its work may be another's: nothing it held may be settled by it."""


class NotOwnerError(StreamsError):
    """This partition of an ordered branch is another worker's now: nothing may be read from it."""


class FewerPartitionsError(StreamsError):
    """The pipeline has more partitions on the server than was asked for; those of the rest hold events."""
