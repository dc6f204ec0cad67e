"""`headgate scale`: why the branches of a pipeline have the workers they have."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from headgate_cli.exits import CommandError
from headgate_cli.target import PipelineName  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from headgate_operator.api import BranchStatus, FanoutPipelineStatus


def scale_command(
    *,
    pipeline: PipelineName,
    _explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Print each branch's workers and the decision that led to them: the default.",
            show_default=False,
        ),
    ] = True,
    branch: Annotated[str | None, typer.Option("--branch", "-b", help="This branch alone.")] = None,
    kubeconfig: Annotated[
        str | None,
        typer.Option(envvar="KUBECONFIG", help="The cluster; without it ~/.kube/config, or the pod's own."),
    ] = None,
) -> None:
    """Print why branches have the workers they have. To change that, change spec.branches[].scale of the manifest.

    Of a cluster, as the operator last wrote it into the status: at most ten seconds old, and at once when a branch went
    to or from zero. Of a local run `headgate run --json` tells the same each second.

    \b
    Examples:
      headgate scale -p shop/orders
      headgate scale -p videos -b transcode --kubeconfig ~/.kube/config
    """  # noqa: D301 - \b is what keeps the lines of an example apart
    if kubeconfig:
        os.environ["KUBECONFIG"] = os.path.expanduser(kubeconfig)  # noqa: PTH111 - may be several, as of kubectl
    namespace, _, name = pipeline.rpartition("/")
    status = asyncio.run(_status(namespace or "default", name))
    wanted = [each for each in status.branches if branch in {None, each.name}]
    if branch is not None and not wanted:
        names = ", ".join(each.name for each in status.branches) or "none in its status yet"
        raise CommandError(f"--branch {branch}: pipeline {pipeline} has no such branch; it has {names}")
    if not wanted:
        raise CommandError(
            f"pipeline {pipeline}: its status tells of no branch yet: is the operator running?"
        )
    for each in wanted:
        typer.echo(explained(each))


async def _status(namespace: str, name: str) -> FanoutPipelineStatus:
    from headgate_operator.api import API_VERSION, KIND  # noqa: PLC0415
    from headgate_operator.cluster import Cluster, ClusterError, NotFoundError  # noqa: PLC0415
    from headgate_operator.status import loaded  # noqa: PLC0415

    try:
        cluster = await Cluster.connect()
        try:
            found = await cluster.get(API_VERSION, KIND, namespace, name)
        finally:
            await cluster.aclose()
    except NotFoundError as error:
        raise CommandError(f"--pipeline {namespace}/{name}: the cluster has no such pipeline") from error
    except ClusterError as error:
        raise CommandError(str(error)) from error
    return loaded(found.get("status"))


def explained(branch: BranchStatus) -> str:
    """Two lines: what there is, and why."""
    backlog = "unknown" if branch.backlog is None else branch.backlog
    age = "" if not branch.age_seconds else f", the oldest event {branch.age_seconds} s old"
    return (
        f"{branch.name}: {branch.desired_replicas} wanted, {branch.replicas} there, {branch.ready_replicas} ready;"
        f" backlog {backlog}{age}\n  {branch.reason or 'nothing was decided yet'}"
    )
