"""What follows when a video is published: five handlers of one event, none of which knows of the others.

An event's id is the video's, its key the channel's name; `load.py` shows its data.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headgate import count, put, result

if TYPE_CHECKING:
    from headgate import Effect, Event, Result

EDGES = ("frankfurt", "singapore", "virginia")
SECONDS_PER_MEGABYTE = 0.002  # of a copy to an edge


class MailRefusedError(Exception):
    """The mail provider takes no mail for now."""


async def thumbnail(event: Event) -> Result:
    """Takes the sharpest of the stills that the encoder offers; the result is its second."""
    still = max(event.data["stills"], key=lambda offered: offered["sharpness"])
    return result(still["second"], put(f"thumbnail:{event.id}", still["second"]))


async def notify(event: Event) -> Result:
    """Tells each subscriber of the channel; the result is how many. The counters are their unread notifications."""
    subscribers = event.data["subscribers"]
    await send_mail(event)
    return result(len(subscribers), *(count(f"unread:{name}") for name in subscribers))


async def recommend(event: Event) -> Result:
    """Learns what a channel is about: its newest video, and how often each topic came up in its titles."""
    topics = sorted({word for word in event.data["title"].lower().split() if len(word) > 3})
    newest = put(f"newest:{event.key}", {"video": event.id, "topics": topics})
    return result(topics, newest, *(count(f"topic:{event.key}:{topic}") for topic in topics))


async def analytics(event: Event) -> Effect:
    """Counts uploads by minute and country."""
    return count(f"uploads:{event.data['at'][:16]}:{event.data['country']}")


def cdn(event: Event) -> Result:
    """Copies the video to every edge; the result has its address on each. Plain, since a copy blocks its thread."""
    megabytes = event.data["megabytes"]
    for _ in EDGES:
        time.sleep(megabytes * SECONDS_PER_MEGABYTE)  # stands for the transfer
    addresses = {edge: f"https://{edge}.cdn.example/{event.id}" for edge in EDGES}
    return result(addresses, *(count(f"megabytes:{edge}", megabytes) for edge in EDGES))


async def send_mail(event: Event) -> None:
    """Stands for a mail provider, which refuses an upload's mail as many times as `mail_refusals` says.

    A real one would be handed `event.idempotency_key`, so that whom it has mailed is not mailed again by a retry.
    """
    if event.attempt <= event.data["mail_refusals"]:
        raise MailRefusedError(f"451 try again later, said to attempt {event.attempt}")
