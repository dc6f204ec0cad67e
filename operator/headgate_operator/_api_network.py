"""What a pipeline's workers may reach."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from headgate_operator._api_base import Model

Port = Annotated[int, Field(ge=1, le=65535)]


class EgressSpec(Model):
    """Addresses that workers may open connections to."""

    cidr: Annotated[str, Field(min_length=9, max_length=43, pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")] = Field(
        description="Network as CIDR, IPv4 or IPv6.", examples=["203.0.113.0/24"]
    )
    ports: tuple[Port, ...] = Field(
        default=(), max_length=16, description="TCP ports there; none named means all.", examples=[[443]]
    )


class NetworkPolicySpec(Model):
    """Workers are reached on their metrics port only; they reach DNS, their Redis server, and what is listed."""

    egress: tuple[EgressSpec, ...] = Field(
        default=(),
        max_length=32,
        description="What else the workers' handlers may reach.",
        examples=[[{"cidr": "203.0.113.0/24", "ports": [443]}]],
    )
