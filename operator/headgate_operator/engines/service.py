"""What the operator serves for KEDA while it leads: started and stopped beside the pilot."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from headgate_operator.engines.figures import Figures

if TYPE_CHECKING:
    from headgate_operator.pilot import Pilot

log = structlog.get_logger()


class ScalerService:
    """The external scaler over a pilot's readings, at `port`, 0 for any free one; without `address` it serves nothing.

    `address` is the host:port at which KEDA reaches it; raises ValueError when it is none.
    """

    def __init__(self, pilot: Pilot, address: str | None, port: int) -> None:
        if address is not None:
            host, _, number = address.rpartition(":")
            if not host or not number.isdecimal():
                raise ValueError(
                    f"HEADGATE_SCALER_ADDRESS: {address!r}: not host:port: name the Service at which KEDA reaches the"
                    " operator, as headgate-scaler.headgate:6000"
                )
        self._address = address
        self.port = port
        """Where it serves, once it has started."""
        self._figures = Figures(pilot.reading)
        pilot.listeners.append(self._figures.looked)
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Starts serving; raises OSError when the port is taken."""
        if self._address is None:
            return
        from headgate_operator.engines.scaler import scaler  # noqa: PLC0415  # gRPC costs 13 MB

        self.port = await self._running.enter_async_context(scaler(self._figures, self.port))
        log.info("serving KEDA", port=self.port, address=self._address)

    async def stop(self) -> None:
        """Ends KEDA's streams and stops serving; again, or without a start, it does nothing."""
        await self._running.aclose()
