"""What kopf notes in a pipeline's object: attempts that are to be repeated, and nothing else."""

from __future__ import annotations

import kopf

from headgate_operator.handlers import settings

BODY = kopf.Body({"metadata": {"name": "media", "uid": "u1"}})
TRIED = {"started": "2026-11-22T02:00:00.000000", "retries": 1, "success": False, "failure": False}


def test_an_attempt_that_failed_is_noted_so_that_it_is_repeated() -> None:
    storage, patch = settings().persistence.progress_storage, kopf.Patch()
    storage.store(key="delete", record=TRIED, body=BODY, patch=patch)
    noted = kopf.Body({"metadata": {"annotations": dict(patch.metadata.annotations)}})
    found = storage.fetch(key="delete", body=noted)
    assert found is not None
    assert found["retries"] == 1


def test_of_what_is_done_nothing_is_written_for_the_object_may_be_another_of_its_name_by_then() -> None:
    storage, patch = settings().persistence.progress_storage, kopf.Patch()
    storage.store(key="delete", record=TRIED | {"success": True}, body=BODY, patch=patch)
    storage.purge(key="delete", body=BODY, patch=patch)
    storage.touch(body=BODY, patch=patch, value=None)
    assert not patch
