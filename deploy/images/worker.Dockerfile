# `edict worker` with torch, whose wheels bring the CUDA libraries; the base gives the rest.
# Weights are not in the image: HF_HOME is a volume that outlives the container, and
# `edict prefetch` fills it ahead of time.
# Build from the root of the checkout: docker build -f deploy/images/worker.Dockerfile .
# Of the CUDA that torch's wheels are for: where the host's driver is older, it says so at the start.
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04

FROM ${CUDA_IMAGE} AS python
# For EDICT_COMPILE: "g++ python3-dev".
ARG COMPILER=""
# The base image's own release says which version of Python this is: 3.12.
# hadolint ignore=DL3008,SC2086
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv ${COMPILER} \
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
# What torch compiles is loaded from its folder as a program, which /tmp of a container forbids.
ENV PATH=/opt/edict/bin:$PATH \
    HF_HOME=/var/cache/edict \
    HOME=/var/cache/edict \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TORCHINDUCTOR_CACHE_DIR=/var/cache/edict/inductor
VOLUME /var/cache/edict
USER 10001
WORKDIR /tmp
# Loading a model, and compiling it, takes minutes.
HEALTHCHECK --start-period=20m --interval=60s --timeout=30s --retries=5 \
    CMD ["edict", "workers", "--here"]
ENTRYPOINT ["edict"]
CMD ["worker"]
