"""The worker: read, handle, settle."""

from headgate.worker.main import run_worker

__all__ = ["run_worker"]
