"""What an operator process is started with: flags of its command, and variables of its environment."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class OperatorSettings:
    """What the process is started with. `namespaces` empty means all; port 0 is any free one."""

    namespaces: tuple[str, ...] = ()
    metrics_port: int = 9100
    health_port: int = 8080
    redis_url: str | None = None
    """The operator's own server, for pipelines without spec.redis."""
    worker_image: str | None = None
    """Image of workers that push events: of branches with an http or container handler."""
    scaler_address: str | None = None
    """host:port at which KEDA reaches this operator; without it nothing is served for KEDA."""
    scaler_port: int = 6000
    """Where that is served."""
    redis_users: bool = True
    """Whether each pipeline on the operator's own server gets a user of its own there."""
    allow_privileged: bool = False
    """Whether branches may give their pods rights on the node."""
    own_account: str = ""
    """The operator's own ServiceAccount, which no worker may have; empty: unknown."""
    most_workers: int = 0
    """In any namespace, all its branches together; 0 for as many as they want."""
    own_namespace: str = "default"
    """Where the Lease is."""
    lease_seconds: float = 4.0
    """The Lease of a leader that died is another's after this."""
    secret_seconds: float = 30.0
    """The Secrets that pipelines name are read this often: nobody tells the operator when one is changed."""
    identity: str = field(default_factory=lambda: f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}")

    @classmethod
    def from_environment(
        cls,
        *,
        namespaces: Sequence[str] = (),
        metrics_port: int = 9100,
        health_port: int = 8080,
        scaler_port: int = 6000,
    ) -> OperatorSettings:
        """With HEADGATE_REDIS_URL, HEADGATE_WORKER_IMAGE, HEADGATE_SCALER_ADDRESS, and POD_NAMESPACE or the pod's.

        And with HEADGATE_LEASE_SECONDS, HEADGATE_REDIS_USERS, HEADGATE_ALLOW_PRIVILEGED, HEADGATE_SERVICE_ACCOUNT
        and HEADGATE_MAX_WORKERS_PER_NAMESPACE. Raises ValueError.
        """
        own = os.environ.get("POD_NAMESPACE")
        if not own and _NAMESPACE_FILE.exists():
            own = _NAMESPACE_FILE.read_text().strip()
        return cls(
            namespaces=tuple(namespaces),
            metrics_port=metrics_port,
            health_port=health_port,
            redis_url=os.environ.get("HEADGATE_REDIS_URL") or None,
            worker_image=os.environ.get("HEADGATE_WORKER_IMAGE") or None,
            scaler_address=os.environ.get("HEADGATE_SCALER_ADDRESS") or None,
            scaler_port=scaler_port,
            redis_users=_switch("HEADGATE_REDIS_USERS", OperatorSettings.redis_users),
            allow_privileged=_switch("HEADGATE_ALLOW_PRIVILEGED", OperatorSettings.allow_privileged),
            own_account=os.environ.get("HEADGATE_SERVICE_ACCOUNT", ""),
            most_workers=_count("HEADGATE_MAX_WORKERS_PER_NAMESPACE"),
            own_namespace=own or "default",
            lease_seconds=_lease_seconds(os.environ.get("HEADGATE_LEASE_SECONDS")),
        )


def _lease_seconds(given: str | None) -> float:
    """A whole number, as the Lease has it; raises ValueError."""
    if not given:
        return OperatorSettings.lease_seconds
    if not given.isdecimal() or not 2 <= int(given) <= 60:
        raise ValueError(f"HEADGATE_LEASE_SECONDS: {given!r}: give whole seconds from 2 to 60")
    return float(given)


def _count(name: str) -> int:
    """A variable that is a whole number, 0 without it; raises ValueError."""
    given = os.environ.get(name) or "0"
    if not (given.isascii() and given.isdigit()):
        raise ValueError(f"{name}: {given!r}: give a whole number from 0")
    return int(given)


def _switch(name: str, otherwise: bool) -> bool:
    """A variable that is true or false; raises ValueError."""
    given = os.environ.get(name) or str(otherwise).lower()
    if given not in {"true", "false"}:
        raise ValueError(f"{name}: {given!r}: give true or false")
    return given == "true"
