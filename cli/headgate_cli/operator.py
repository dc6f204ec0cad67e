"""`headgate operator`: the control plane, as the chart runs it."""

from __future__ import annotations

from typing import Annotated

import typer


def operator_command(
    metrics_port: Annotated[int, typer.Option(help="Port of /metrics.", min=0, max=65535)] = 9100,
    health_port: Annotated[int, typer.Option(help="Port of /healthz and /readyz.", min=0, max=65535)] = 8080,
    scaler_port: Annotated[
        int, typer.Option(help="Port at which KEDA asks for figures.", min=0, max=65535)
    ] = 6000,
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Namespace to look after; give it again for more. Without it, all of them."),
    ] = None,
) -> None:
    """Run the control plane of a cluster.

    In the cluster, or against the one of KUBECONFIG. HEADGATE_REDIS_URL is the server of pipelines that name none,
    HEADGATE_WORKER_IMAGE the image of workers that push events to a URL or container, HEADGATE_SCALER_ADDRESS the
    host:port at which KEDA reaches it (without it nothing is served for KEDA). HEADGATE_REDIS_USERS=false has workers
    share the login of HEADGATE_REDIS_URL; HEADGATE_ALLOW_PRIVILEGED=true lets pods have rights on their nodes, and
    HEADGATE_SERVICE_ACCOUNT is the operator's own, which none may have. Several may run: one leads, by Lease.

    \b
    Examples:
      headgate operator
      headgate operator --namespace shop --namespace videos
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    import asyncio  # noqa: PLC0415

    from headgate_operator.logs import configure_logging  # noqa: PLC0415
    from headgate_operator.main import run  # noqa: PLC0415
    from headgate_operator.settings import OperatorSettings  # noqa: PLC0415

    configure_logging()
    settings = OperatorSettings.from_environment(
        namespaces=namespace or (),
        metrics_port=metrics_port,
        health_port=health_port,
        scaler_port=scaler_port,
    )
    raise typer.Exit(asyncio.run(run(settings)))
