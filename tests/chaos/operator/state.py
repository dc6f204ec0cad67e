"""The state of a pipeline: all that the API server and both Redis servers hold of it, without what may differ.

Left out: resource versions, times, rates and ages, and what the order of writes alone decides (generations of
children). A uid is replaced by whether it is that of the pipeline that is there, a branch's reason by the number of
workers in it. Everything else counts: finaliser, owner references, who owns which field, conditions with reasons and
messages, groups with their places, settings, marks, gates.
"""

from __future__ import annotations

import asyncio
import base64
import difflib
import json
import re
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from chaos.operator.api import KINDS, PIPELINES, Manifest
from headgate_operator.manifests.redis import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis.asyncio

    from chaos.operator.api import Api

NAME = "media"
_TIMES = {"creationTimestamp", "deletionTimestamp", "lastTransitionTime", "time", "lastScaleTime"}
_FIGURES = {
    "ageSeconds",
    "oldestSeconds",
    "arrivalPerSecond",
    "settledPerSecond",
    "publishedPerSecond",
    "trend",
}
_BOOKKEEPING = {
    "resourceVersion",
    "generation",
    "observedGeneration",
    "selfLink",
    "deletionGracePeriodSeconds",
}
_LEFT_OUT = _TIMES | _FIGURES | _BOOKKEEPING
_RATE = re.compile(r"\d+\.\d+")
_MOMENT = re.compile(r":\d{13}\b")

State = dict[str, Any]


async def observe(api: Api, namespace: str) -> list[Manifest]:
    """Every object in a namespace that an operator or a user put there."""
    found = await asyncio.gather(*(api.items(*kind, namespace) for kind in KINDS))
    return [
        item | {"resource": resource}
        for (_, resource), items in zip(KINDS, found, strict=True)
        for item in items
    ]


def pipeline_of(objects: Sequence[Manifest]) -> Manifest | None:
    """The pipeline among them."""
    return next((item for item in objects if item["resource"] == PIPELINES[1]), None)


def of_objects(objects: Sequence[Manifest], namespace: str, urls: Mapping[str, str]) -> State:
    """What of the API server's objects has to be the same whatever happened; `urls` are the servers' by letter."""
    pipeline = pipeline_of(objects)
    uid = pipeline["metadata"]["uid"] if pipeline else ""
    marks = {fingerprint(url, uid): f"(fingerprint of {letter})" for letter, url in urls.items()}
    state = {}
    for item in objects:
        plain = _without(item)
        plain["metadata"].pop("uid", None)
        plain["metadata"]["managedFields"] = sorted(
            (_without(entry) for entry in item["metadata"].get("managedFields", ())), key=json.dumps
        )
        plain["status"] = _without(item.get("status") or {})
        if item["resource"] == PIPELINES[1]:
            generation = item["metadata"]["generation"]
            plain["status"]["observedGeneration"] = (item.get("status") or {}).get(
                "observedGeneration"
            ) == generation
            for condition in plain["status"].get("conditions", ()):
                condition["observedGeneration"] = "is checked above"
            for branch in plain["status"].get("branches", ()):
                # The last decision in a sentence: with what was measured, and what was learnt by whoever lived.
                branch["reason"] = branch.get("reason", "").partition(":")[0]
        text = json.dumps(plain, sort_keys=True).replace(namespace, "NAMESPACE")
        for mark, meaning in marks.items():
            text = text.replace(mark, meaning)
        if uid:
            text = text.replace(uid, "UID")
        for letter, url in urls.items():
            for written in (url, base64.b64encode(url.encode()).decode()):
                text = text.replace(written, f"(URL of {letter})")
        state[f"{item['resource']}/{item['metadata']['name']}"] = json.loads(text)
    return state


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(inner) for name, inner in value.items() if name not in _LEFT_OUT}
    if isinstance(value, list):
        return [_without(inner) for inner in value]
    return _RATE.sub("#", value) if isinstance(value, str) else value


async def of_redis(client: redis.asyncio.Redis, namespace: str) -> State:
    """What a server holds of a namespace's pipelines, and which users it knows."""
    state: State = {}
    names = sorted({name async for name in client.scan_iter(match=f"hg:{{{namespace}/*", count=1000)})
    for name in names:
        kind = (await client.type(name)).decode()
        try:
            value = await _READERS[kind](client, name)
        except (_GoneError, ResponseError):  # removed between two looks
            continue
        state[_text(name).replace(namespace, "NAMESPACE")] = {
            "type": kind,
            "expires": await client.pttl(name) > 0,
            "value": value,
        }
    users = [_text(user).replace(namespace, "NAMESPACE") for user in await client.acl_users()]
    return {"keys": state, "users": sorted(users)}


class _GoneError(Exception):
    """The key is not there any more."""


async def _string(client: redis.asyncio.Redis, name: bytes) -> Any:
    return _text(await client.get(name) or b"")


async def _hash(client: redis.asyncio.Redis, name: bytes) -> Any:
    found = await client.hgetall(name)
    # `grown` says when partitions were added.
    return {_text(field): _MOMENT.sub(":(a time)", _text(value)) for field, value in sorted(found.items())}


async def _zset(client: redis.asyncio.Redis, name: bytes) -> Any:
    return [_text(member) for member in await client.zrange(name, 0, -1)]


async def _list(client: redis.asyncio.Redis, name: bytes) -> Any:
    return [_text(member) for member in await client.lrange(name, 0, -1)]


async def _set(client: redis.asyncio.Redis, name: bytes) -> Any:
    return sorted(_text(member) for member in await client.smembers(name))


async def _stream(client: redis.asyncio.Redis, name: bytes) -> Any:
    entries = [_text(entry) for entry, _ in await client.xrange(name)]
    groups = {
        _text(group["name"]): {
            key: _text(value) for key, value in group.items() if key not in ("name", "consumers")
        }
        for group in await client.xinfo_groups(name)
    }
    return {"entries": entries, "groups": groups}


async def _gone(client: redis.asyncio.Redis, name: bytes) -> Any:
    raise _GoneError(client, name)


_READERS = {
    "string": _string,
    "hash": _hash,
    "zset": _zset,
    "list": _list,
    "set": _set,
    "stream": _stream,
    "none": _gone,
}


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def difference(wanted: State, found: State) -> str:
    """What differs, as the lines of a diff; empty when nothing does."""
    if wanted == found:
        return ""
    lines = difflib.unified_diff(
        json.dumps(wanted, indent=1, sort_keys=True).splitlines(),
        json.dumps(found, indent=1, sort_keys=True).splitlines(),
        "reference",
        "found",
        n=4,
        lineterm="",
    )
    return "\n".join(lines)
