"""`headgate run`: a manifest on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from headgate_cli.exits import CommandError, Exit


def run_command(
    *,
    file: Annotated[Path, typer.Argument(help="A manifest; all FanoutPipelines of it run together.")],
    publish: Annotated[
        int | None,
        typer.Option(
            help="Publish this many sample events: from the manifest's annotation headgate.dev/sample-events, else"
            ' {"n": 0}, {"n": 1}, ... Of several pipelines, into the first that has the annotation.',
            min=1,
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Sample events a second; without it as fast as they come.", min=0.001)
    ] = None,
    until_settled: Annotated[
        bool, typer.Option("--until-settled", help="End when all is settled, joined and relayed.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(help="With --until-settled: give up after this many seconds, exit 4.", min=0.1),
    ] = None,
    json_lines: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object a second and pipeline instead of the table, the last a summary."
        ),
    ] = False,
    redis_url: Annotated[
        str | None, typer.Option(help="Use this server; without it one is started and removed afterwards.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="Serve /metrics on this port of 127.0.0.1, and /targets: the run and its workers for Prometheus's"
            " http_sd_configs.",
            min=1,
            max=65535,
        ),
    ] = None,
    container: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BRANCH=URL",
            help="Where the container of a branch listens, which you have started yourself; again for more. BRANCH may"
            " be PIPELINE/BRANCH.",
        ),
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BRANCH=URL",
            help="Where to push the events of a branch with an `http` handler instead, such as a service of the cluster"
            " that you have started on this machine; again for more. Without a path: that of the manifest.",
        ),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace instead of the manifest's.")
    ] = None,
) -> None:
    """Run a manifest on this machine.

    The pilot, gates and join are those of a cluster, workers are processes. Handlers are imported from the manifest's
    folder; signing keys are taken from Secrets in the manifest's file. Ctrl-C drains; a second Ctrl-C kills. Workers
    write their logs to .headgate/logs.

    \b
    Examples:
      headgate run pipeline.yaml
      headgate run pipeline.yaml --publish 30 --until-settled
      headgate run pipeline.yaml --publish 1000 --rate 50 --json --redis-url redis://localhost
      headgate run pipeline.yaml --container resize=http://127.0.0.1:8080
      headgate run shop.yaml --service payments/stock=http://127.0.0.1:8081

    Exits 0; 2 when the manifest or an option is wrong. With --until-settled: 3 when events were dead-lettered, 4 on
    time-out, 5 when workers cannot run or a branch closed, 130 when interrupted.
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    if timeout is not None and not until_settled:
        raise CommandError("--timeout: only with --until-settled", Exit.INVALID)
    if rate is not None and publish is None:
        raise CommandError("--rate: only with --publish", Exit.INVALID)
    from headgate_cli import display  # noqa: PLC0415
    from headgate_cli.local_run import Options, run_locally  # noqa: PLC0415
    from headgate_cli.manifests import load_all  # noqa: PLC0415
    from headgate_cli.places import given_urls  # noqa: PLC0415

    manifests = load_all(file, namespace)
    options = Options(
        publish,
        rate,
        until_settled,
        timeout,
        redis_url,
        metrics_port,
        containers=given_urls("--container", container or ()),
        services=given_urls("--service", service or ()),
    )
    with display.choose(json_lines=json_lines) as shown:
        ended = asyncio.run(run_locally(manifests, options, shown))
    if ended.code:
        raise CommandError(ended.reason, ended.code)
