"""Where a pipeline's workers find their server's URL: always a Secret, so that no manifest carries a password."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from headgate_operator.manifests.names import metadata, secret_name

if TYPE_CHECKING:
    from headgate_operator.logins import Login
    from headgate_operator.manifests.names import Manifest
    from headgate_operator.pipeline import Pipeline

URL_KEY = "url"


@dataclass(frozen=True)
class RedisSource:
    """The Secret and key that hold the URL, and the URL itself; `owned` when the operator writes that Secret."""

    secret: str
    key: str
    url: str = field(repr=False)
    owned: bool
    login: Login | None = None
    """The pipeline's own, when the Secret keeps one."""

    def of(self, login: Login) -> RedisSource:
        """The same server by a pipeline's own login."""
        return replace(self, url=login.url(self.url), login=login)

    def fingerprint(self, salt: str) -> str:
        """A mark that changes with the URL, so that workers restart when it does; another one for each salt."""
        if self.login is not None:  # its password is 256 random bits: no list of guesses has it
            return hashlib.sha256(f"{salt}\n{self.url}".encode()).hexdigest()[:16]
        return fingerprint(self.url, salt)

    @classmethod
    def default(cls, pipeline: Pipeline, url: str) -> RedisSource:
        """The operator's own server, handed to the workers in a Secret of the pipeline."""
        return cls(secret=secret_name(pipeline.name), key=URL_KEY, url=url, owned=True)


def secret(pipeline: Pipeline, source: RedisSource) -> Manifest:
    """The Secret for an `owned` source."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(pipeline, source.secret),
        "type": "Opaque",
        # `data` and not `stringData`: what is applied is then what is read back.
        "data": {
            name: base64.b64encode(value.encode()).decode()
            for name, value in (
                {source.key: source.url} | (source.login.members() if source.login else {})
            ).items()
        },
    }


def fingerprint(url: str, salt: str) -> str:
    """A mark that changes with the URL, so that workers restart when it does; another one for each salt.

    Derived slowly: who may read Deployments but not Secrets cannot guess a weak password from it.
    """
    return hashlib.sha256(_slowly_derived(url) + salt.encode()).hexdigest()[:16]


@lru_cache(maxsize=1024)
def _slowly_derived(url: str) -> bytes:
    # 50 ms once a server, not once a pipeline: a thousand of them would hold the operator up for most of a minute. The
    # URL names its host, so a list of guesses made beforehand is of no use elsewhere.
    return hashlib.pbkdf2_hmac("sha256", url.encode(), b"headgate.dev/redis-fingerprint", 100_000)
