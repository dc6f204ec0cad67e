"""Fills a peer's queue, as a process of its own: `python -m bench.peers.enqueue NAME EVENTS`."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    importlib.import_module(f"bench.peers.{sys.argv[1]}").enqueue(int(sys.argv[2]))
