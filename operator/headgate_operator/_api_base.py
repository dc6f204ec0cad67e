"""What every model of the API shares: camelCase outside, snake_case inside, immutable, rules beside fields.

A field says its default, its unit and meaning in `description`, and one value worth copying in `examples`;
crd.py makes all three the text of `kubectl explain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "headgate.dev"
VERSION = "v1alpha1"
PLURAL = "fanoutpipelines"
SINGULAR = "fanoutpipeline"
KIND = "FanoutPipeline"
API_VERSION = f"{GROUP}/{VERSION}"

LABEL_PATTERN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
LARGEST_COUNT = 2**53 - 1
"""Largest integer that every JSON reader keeps exact."""

BranchName = Annotated[str, Field(min_length=1, max_length=32, pattern=LABEL_PATTERN)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253)]
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
TimeoutSeconds = Annotated[int, Field(ge=1, le=86400)]
CronText = Annotated[str, Field(min_length=9, max_length=128)]
SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern="^[-._a-zA-Z0-9]+$")]


@dataclass(frozen=True)
class Rule:
    """A CEL rule on the model that holds it.

    `message` is what the API server says; `remedy` is what `headgate` adds on this machine. `field` is the
    member at fault, in camelCase; empty when it is the object as a whole.
    """

    expression: str
    message: str
    remedy: str
    field: str = ""

    def declared(self) -> dict[str, str]:
        """The rule as a CRD holds it."""
        declared = {"rule": self.expression, "message": self.message}
        return declared | {"fieldPath": f".{self.field}"} if self.field else declared


MERGE_KEY = "x-headgate-merge-key"


def _attach(schema: dict[str, Any], model: type[Model]) -> None:
    """Puts into a model's JSON schema what JSON schema has no words for; crd.py reads it."""
    if model.rules:
        schema["x-kubernetes-validations"] = [rule.declared() for rule in model.rules]
    if model.merge_key:
        schema[MERGE_KEY] = model.merge_key


class Model(BaseModel):
    """An object of the API. Members that this version does not know are dropped, as the API server does."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        json_schema_extra=_attach,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    merge_key: ClassVar[str] = ""
    """Member that names an item in a list of these; such a list is a map to the API server."""


class OpenModel(Model):
    """An object that also takes members of the Kubernetes API beside its own, and passes them on."""

    model_config = ConfigDict(extra="allow")
