"""What handles a branch's events: a Python function, a URL, or a container of the worker's pod."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from headgate.contract import Executor
from headgate_operator._api_base import Model, ObjectName, Rule, SecretKey

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
FUNCTION_PATTERN = rf"^{_NAME}(\.{_NAME})*:{_NAME}(\.{_NAME})*$"
URL_PATTERN = r"^https?://[-A-Za-z0-9._:\[\]]+([/?][!-~]*)?$"
"""Without a user or password, which a manifest is no place for."""
NETWORK_PATTERN = r"^[0-9A-Fa-f.:]+/[0-9]{1,3}$"

Image = Annotated[str, Field(min_length=1, max_length=512)]


class PythonHandler(Model):
    """A Python function that is called with each event."""

    image: Image = Field(
        description="Container image with the function and the headgate package; a local run imports the"
        " function instead.",
        examples=["registry.example/videos:1"],
    )
    function: Annotated[str, Field(min_length=3, max_length=253, pattern=FUNCTION_PATTERN)] = Field(
        description="The function as module:attribute. Called with one event, or a list of them where the"
        " branch has a batch; its result goes to the join, an exception is a failed attempt.",
        examples=["videos:transcode"],
    )
    executor: Executor = Field(
        default=Executor.THREADS,
        description="Where a plain function runs: Threads, or Processes for work that keeps the processor"
        " busy."
        " An async function always runs on the worker's event loop.",
        examples=["Processes"],
    )


class CircuitBreakerSpec(Model):
    """When a target that keeps failing is left alone for a while."""

    failures: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=5,
        description="Failures in a row after which a worker pushes nothing to the target; 0 never stops.",
        examples=[10],
    )
    open_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=30, description="Seconds for which it then waits before it tries one event.", examples=[60]
    )


class SigningSecretRef(Model):
    """A Secret in the pipeline's namespace with the keys that pushes are signed with."""

    name: ObjectName = Field(
        description="Name of the Secret. A local run takes it from a document of kind Secret in the"
        " manifest's file.",
        examples=["hooks"],
    )
    key: SecretKey = Field(
        default="keys",
        description="Key of the Secret that holds one or two Standard Webhooks keys (whsec_...), one a line,"
        " the newest first; with two, every push carries both signatures.",
        examples=["keys"],
    )


class HttpHandler(Model):
    """A URL that each event is pushed to, as a CloudEvent in an HTTP POST."""

    url: Annotated[str, Field(min_length=10, max_length=2048, pattern=URL_PATTERN)] = Field(
        description="Where to push: an http or https URL. Status 2xx settles the event and a JSON body is its"
        " result; 410 closes the branch; 429 and 503 wait for Retry-After; all others, redirects"
        " too, are failed attempts.",
        examples=["https://hooks.example/videos"],
    )
    signing_secret_ref: SigningSecretRef | None = Field(
        default=None,
        description="Keys to sign each push with, after Standard Webhooks; without it pushes carry no"
        " signature.",
    )
    allow_networks: tuple[Annotated[str, Field(max_length=43, pattern=NETWORK_PATTERN)], ...] = Field(
        default=(),
        max_length=16,
        description="Private networks, as CIDRs, that the URL's host may be in; without any, only public"
        " addresses are pushed to.",
        examples=[["10.96.0.0/12"]],
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    circuit_breaker: CircuitBreakerSpec = Field(
        default=CircuitBreakerSpec(),
        description="When the URL is left alone for a while, because it keeps failing.",
    )


class ContainerHandler(Model):
    """An image of your own that runs beside each worker and takes its events by HTTP; it needs no SDK."""

    image: Image = Field(
        description="The image. It must run as a user other than root; pod.env, envFrom, volumeMounts,"
        " resources and imagePullPolicy apply to it, variables named OTEL_* and HEADGATE_* to the worker too.",
        examples=["registry.example/resize:7"],
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=8080,
        description="Port that it listens on, on localhost at least; a worker takes no event before. Not"
        " 9100, which is the worker's own.",
        examples=[3000],
    )
    path: Annotated[str, Field(min_length=1, max_length=1024, pattern="^/[!-~]*$")] = Field(
        default="/",
        description="Path that events are posted to, as CloudEvents; answers mean what they do to http.",
        examples=["/events"],
    )
    command: tuple[Annotated[str, Field(max_length=1024)], ...] = Field(
        default=(),
        max_length=32,
        description="Command instead of the image's entry point.",
        examples=[["node", "server.js"]],
    )
    args: tuple[Annotated[str, Field(max_length=4096)], ...] = Field(
        default=(),
        max_length=64,
        description="Arguments instead of the image's own.",
        examples=[["--verbose"]],
    )
    circuit_breaker: CircuitBreakerSpec = Field(
        default=CircuitBreakerSpec(),
        description="When the container is left alone for a while, because it keeps failing.",
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.port != 9100",
            "must not be 9100: the worker beside it serves its metrics there",
            "let the container listen on another port",
            "port",
        ),
    )


class HandlerSpec(Model):
    """What handles a branch's events."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.python), has(self.http), has(self.container)].filter(given, given).size() == 1",
            "must have exactly one of python, http and container",
            "keep one of python, http and container",
        ),
    )

    python: PythonHandler | None = Field(default=None, description="Handle events with a Python function.")
    http: HttpHandler | None = Field(
        default=None, description="Push events to a URL, whatever language is behind it."
    )
    container: ContainerHandler | None = Field(
        default=None, description="Push events to a container of your own in each worker's pod."
    )
