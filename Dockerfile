# Two images: `gateway` (no torch) and `worker` (CUDA through torch's own wheels; it runs on a CPU as well).
#   docker build --target gateway --tag facelight-gateway .
#   docker build --target worker --tag facelight-worker .
# The only weights in an image are the worker's demo weights. At run time nothing is written outside /data, /weights,
# /cache and /tmp.
ARG PYTHON_IMAGE=python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${PYTHON_IMAGE} AS base
# The tree is read-only at run time: bytecode is compiled while building, and every library's cache lies in /tmp.
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    HF_HOME=/tmp/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba
# A fixed number, so that folders of the host can be given to it; /data and /weights hand it on to new volumes.
RUN groupadd --gid 10001 facelight \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin facelight \
    && install --directory --owner=10001 --group=10001 --mode=0750 /data /weights
WORKDIR /app

# Packages come before the sources, in a layer of their own that every version with the same lock shares. --no-deps: the
# locks are complete. What pip downloads stays in the builder's cache.
FROM base AS gateway-packages
COPY deploy/gateway.lock /opt/
RUN --mount=type=cache,target=/var/cache/pip \
    python -m venv /opt/venv \
    && pip install --cache-dir /var/cache/pip --disable-pip-version-check --compile --no-deps --require-hashes \
       --requirement /opt/gateway.lock

# Triton builds each kernel's launcher with the host's C compiler. What is compiled is kept in /cache, which holds code
# that is run as it is: the gateway has no such folder, and must never be given the worker's.
FROM base AS worker-packages
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=10001 --group=10001 --mode=0700 /cache
ENV TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    TRITON_CACHE_DIR=/cache/triton
COPY deploy/worker.lock /opt/
RUN --mount=type=cache,target=/var/cache/pip \
    python -m venv /opt/venv \
    && pip install --cache-dir /var/cache/pip --disable-pip-version-check --compile --no-deps --require-hashes \
       --requirement /opt/worker.lock

# The project in /app, and what installs it in /opt/project: copied over the packages, so that a change of the sources
# adds some megabytes to an image, and not its packages once more.
FROM gateway-packages AS project
WORKDIR /app
COPY pyproject.toml setup.py README.md LICENSE THIRD-PARTY-NOTICES.md weights.lock ./
COPY cli cli
COPY models models
COPY server server
COPY workers workers
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --prefix /opt/project \
       --editable /app \
    && python -m compileall -q /app

# The gateway loads no weights: the trained demo weights are the worker's alone.
FROM project AS gateway-project
RUN rm -r /app/models/demo/trained

FROM gateway-packages AS gateway
COPY --from=gateway-project /opt/project /opt/venv
COPY --from=gateway-project /app /app
ENV FACELIGHT_HOST=0.0.0.0 \
    FACELIGHT_PORT=8000 \
    FACELIGHT_DATA_DIR=/data
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# http.client, because urllib would ask a proxy that the environment may name.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['FACELIGHT_PORT']), timeout=4); c.request('GET', '/health/live'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "server"]
# Last, so that what changes with every version is one layer of metadata.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="facelight-gateway" \
      org.opencontainers.image.description="HTTP gateway of facelight" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM worker-packages AS worker
COPY --from=project /opt/project /opt/venv
COPY --from=project /app /app
# For hosts whose default runtime is NVIDIA's; a GPU that compose.yaml reserves overrides the first.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    FACELIGHT_DATA_DIR=/data
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-m", "workers.healthcheck"]
ENTRYPOINT ["python", "-m", "workers"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="facelight-worker" \
      org.opencontainers.image.description="GPU worker of facelight, and its commands for weights" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
