"""What a handler raises to say more than "try again"."""

from __future__ import annotations


class PermanentError(Exception):
    """Raised by a handler: this event will never succeed; dead-letter it at once, whatever attempts are left."""
