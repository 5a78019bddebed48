# `edict` without torch: control, the HTTP API, migrate, and what submits and follows work.
# Build from the root of the checkout: docker build -f deploy/images/control.Dockerfile .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY . .
# What is compiled and packed bears this moment and not that of the build: the same files each time.
ENV PIP_BUILD_CONSTRAINT=/src/constraints.txt \
    PIP_CONSTRAINT=/src/constraints.txt \
    SOURCE_DATE_EPOCH=315532800
RUN python -m venv /opt/edict \
    && /opt/edict/bin/pip install --no-cache-dir '.[bulk,serve,tracing]'

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/edict /opt/edict
RUN SOURCE_DATE_EPOCH=315532800 useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin edict
ENV PATH=/opt/edict/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes can tell that it is not root.
USER 10001
WORKDIR /tmp
ENTRYPOINT ["edict"]
CMD ["control"]
