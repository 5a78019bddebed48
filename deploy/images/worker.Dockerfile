# `edict worker` with torch, whose wheels bring the CUDA libraries; the base gives the rest.
# Weights are not in the image: HF_HOME is a volume that outlives the container, and
# `edict prefetch` fills it ahead of time.
# Build from the root of the checkout: docker build -f deploy/images/worker.Dockerfile .
ARG CUDA_IMAGE=nvidia/cuda:12.8.1-base-ubuntu24.04

FROM ${CUDA_IMAGE} AS python
# The base image's own release says which version of Python this is: 3.12.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/*

FROM python AS build
WORKDIR /src
COPY . .
# What is compiled and packed bears this moment and not that of the build: the same files each time.
ENV PIP_BUILD_CONSTRAINT=/src/constraints.txt \
    PIP_CONSTRAINT=/src/constraints.txt \
    SOURCE_DATE_EPOCH=315532800
RUN python3 -m venv /opt/edict \
    && /opt/edict/bin/pip install --no-cache-dir '.[tracing,worker]'

FROM python
COPY --from=build /opt/edict /opt/edict
RUN SOURCE_DATE_EPOCH=315532800 useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin edict \
    && install -d -o 10001 -g 10001 /var/cache/edict
ENV PATH=/opt/edict/bin:$PATH \
    HF_HOME=/var/cache/edict \
    HOME=/var/cache/edict \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
VOLUME /var/cache/edict
USER 10001
WORKDIR /tmp
# Loading a model, and compiling it, takes minutes.
HEALTHCHECK --start-period=20m --interval=60s --timeout=30s --retries=5 \
    CMD ["edict", "workers", "--here"]
ENTRYPOINT ["edict"]
CMD ["worker"]
