# Headgate's images: `--target worker` is slim, `--target operator` adds the control plane.
# Both run as any user on a read-only root file system.
ARG BASE=python:3.11-slim

# hadolint ignore=DL3006
FROM ${BASE} AS build
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt UV_LINK_MODE=copy
WORKDIR /src
COPY requirements.lock pyproject.toml ./
# uv checks the hashes of the constraint file. `--seed`: a worker image is what others add their packages to, with pip.
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --disable-pip-version-check "uv==$(sed -n 's/^uv==\([^ ;\\]*\).*/\1/p' requirements.lock)" \
 && /opt/uv/bin/uv venv --quiet --seed --python python3 /opt/headgate \
 && /opt/uv/bin/uv pip install --quiet --python /opt/headgate --compile-bytecode --constraint requirements.lock -r pyproject.toml --extra http --extra otel \
 && echo /opt/package >"$(/opt/headgate/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/headgate.pth"

FROM build AS build-operator
RUN --mount=type=cache,target=/root/.cache \
    /opt/uv/bin/uv pip install --quiet --python /opt/headgate --compile-bytecode --constraint requirements.lock -r pyproject.toml --extra operator

FROM build AS package
COPY README.md LICENSE ./
COPY crds crds
COPY operator operator
COPY cli cli
COPY workers workers
RUN --mount=type=cache,target=/root/.cache \
    /opt/uv/bin/uv pip install --quiet --python /opt/headgate --compile-bytecode --no-deps --target /opt/package .

# hadolint ignore=DL3006
FROM ${BASE} AS runtime
ENV PATH=/opt/package/bin:/opt/headgate/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /
ENTRYPOINT ["headgate"]

# The dependencies are a layer of their own, so that a change of the code moves a few megabytes only.
FROM runtime AS operator
COPY --from=build-operator /opt/headgate /opt/headgate
COPY --from=package /opt/package /opt/package
CMD ["operator"]

FROM runtime AS worker
COPY --from=build /opt/headgate /opt/headgate
COPY --from=package /opt/package /opt/package
CMD ["worker"]
