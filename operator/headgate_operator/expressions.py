"""What a manifest says in languages of their own, compiled when it is applied: no schema and no CEL rule can tell.

Filters, JSON Schemas, regular expressions, times, hours and networks. The worker that would stumble over a mistake
comes later than the person who made it; so `headgate validate`, `headgate run` and the operator all look here.
"""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any

from headgate.filter import FilterError, compile_filter
from headgate.retry_rules import RetryRuleError, check_match
from headgate.schema import SchemaError, compile_schema
from headgate.streams.settings import BranchStart
from headgate_operator.field_error import FieldError, Kind, as_go
from headgate_operator.schedule import ScheduleError, check_cron, check_timezone

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LARGEST_SCHEMA_BYTES = 65536
"""A schema goes to every worker with its contract, in a variable that the kernel limits to 128 KiB."""
_SHOWN = 120  # characters of a value in an error


def mistakes(manifest: Mapping[str, Any]) -> list[FieldError]:
    """Every mistake of this kind, in the order of the fields.

    What is not of its field's type, `validation.validate` or loading the manifest tells; here it is passed over.
    """
    spec = _dict(manifest.get("spec"))
    found = list(_check_schema(_dict(spec.get("source")).get("schema")))
    branches = spec.get("branches")
    for at, branch in enumerate(branches if isinstance(branches, list) else ()):
        found += _check_branch(_dict(branch), f"spec.branches[{at}]")
    return found


def _check_branch(branch: dict[str, Any], path: str) -> Iterator[FieldError]:
    if isinstance(text := branch.get("filter"), str):
        try:
            compile_filter(text)
        except FilterError as error:
            yield _mistake(f"{path}.filter", text, *_what_and_remedy(error))
    if isinstance(text := branch.get("startAt"), str):
        try:
            _ = BranchStart("", text).position
        except (ValueError, OverflowError) as error:
            remedy = "write Now, Beginning or a time such as 2026-01-31T12:00:00Z"
            yield _mistake(f"{path}.startAt", text, str(error), remedy)
    rules = _dict(branch.get("retry")).get("rules")
    for at, rule in enumerate(rules if isinstance(rules, list) else ()):
        yield from _check_pattern(_dict(rule).get("match"), f"{path}.retry.rules[{at}].match")
    yield from _check_schedule(_dict(branch.get("scale")).get("schedule"), f"{path}.scale.schedule")
    http = _dict(_dict(branch.get("handler")).get("http"))
    networks = http.get("allowNetworks")
    for at, network in enumerate(networks if isinstance(networks, list) else ()):
        yield from _check_network(network, f"{path}.handler.http.allowNetworks[{at}]")


def _check_schema(schema: Any) -> Iterator[FieldError]:
    if not isinstance(schema, dict):
        return
    field, size = "spec.source.schema", len(json.dumps(schema).encode())
    if size > LARGEST_SCHEMA_BYTES:
        what = f"{size} bytes of JSON, and at most {LARGEST_SCHEMA_BYTES} are taken"
        yield _mistake(field, schema, what, "leave out what need not be checked")
        return
    try:
        compile_schema(schema)
    except SchemaError as error:
        yield _mistake(field, schema, *_what_and_remedy(error))


def _check_pattern(pattern: Any, field: str) -> Iterator[FieldError]:
    if not isinstance(pattern, str):
        return
    try:
        check_match(pattern)
    except RetryRuleError as error:
        yield _mistake(field, pattern, *_what_and_remedy(error))


def _check_schedule(schedule: Any, path: str) -> Iterator[FieldError]:
    for at, entry in enumerate(schedule if isinstance(schedule, list) else ()):
        hours = _dict(entry)
        for member, check in (("start", check_cron), ("end", check_cron), ("timezone", check_timezone)):
            if not isinstance(text := hours.get(member), str):
                continue
            try:
                check(text)
            except ScheduleError as error:
                yield _mistake(f"{path}[{at}].{member}", text, *_what_and_remedy(error))
        start, end = hours.get("start"), hours.get("end")
        if isinstance(end, str) and isinstance(start, str) and end.split() == start.split():
            yield _mistake(f"{path}[{at}].end", end, "it ends when it starts", "write when it ends")


def _check_network(network: Any, field: str) -> Iterator[FieldError]:
    if not isinstance(network, str):
        return
    try:
        ipaddress.ip_network(network)
    except ValueError as error:
        yield _mistake(field, network, f"no network: {error}", "write one such as 10.0.0.0/8 or fd00::/8")


def _what_and_remedy(error: Exception) -> tuple[str, str]:
    """The data plane's errors end with their remedy."""
    what, _, remedy = str(error).rpartition("; ")
    return (what, remedy) if what else (remedy, "correct it")


def _mistake(field: str, value: Any, what: str, remedy: str) -> FieldError:
    shown = as_go(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return FieldError(field, Kind.INVALID, value, f"Invalid value: {shown}: {what}", remedy)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
