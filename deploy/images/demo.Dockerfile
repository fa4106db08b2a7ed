# The demo on CPUs: Fakesweep with vLLM's CPU build, the demo detector, and an embedded Postgres, Redis and S3 server.
# deploy/images/build.sh builds it, from the root of the repository.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libgomp1 libnuma1 python3 tini tzdata \
 && rm -rf /var/cache/apt/* /var/lib/apt/lists/* \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && groupadd --gid 10001 fakesweep \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin fakesweep

FROM base AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ python3-dev python3-pip python3-venv \
 && rm -rf /var/cache/apt/* /var/lib/apt/lists/*
WORKDIR /build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY deploy/images/requirements/build.txt deploy/images/requirements/compiled.txt \
     deploy/images/requirements/demo.txt ./
RUN python3 -m venv tools \
 && python3 -m venv --without-pip /opt/fakesweep \
 && tools/bin/pip install --require-hashes --no-deps --only-binary :all: -r build.txt \
 && tools/bin/pip wheel --require-hashes --no-deps --no-binary :all: --no-build-isolation --wheel-dir wheels \
      -r compiled.txt \
 && tools/bin/pip --python /opt/fakesweep/bin/python install \
      --require-hashes --no-deps --only-binary :all: --extra-index-url "$TORCH_INDEX" -r demo.txt
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
COPY producers producers
COPY migrations migrations
COPY deploy/demo/torchvision_ops.py ./
RUN tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir wheels . \
 && tools/bin/pip --python /opt/fakesweep/bin/python install --no-deps --no-index wheels/*.whl \
 && /opt/fakesweep/bin/python torchvision_ops.py
# What is in the image, for scanners: Python's packages, and Debian's as `base` has them.
COPY --from=base /var/lib/dpkg /base/var/lib/dpkg
RUN mkdir sbom \
 && tools/bin/cyclonedx-py environment --output-reproducible --output-file sbom/python.cdx.json /opt/fakesweep \
 && tools/bin/debsbom generate --root /base --sbom-type cdx --out sbom/debian

FROM base
LABEL org.opencontainers.image.title="fakesweep-demo" \
      org.opencontainers.image.description="Fakesweep's demo on CPUs, with a detector that is not FakeVLM" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/fakesweep /opt/fakesweep
COPY --from=build /build/sbom /usr/share/sbom
COPY deploy/__init__.py /opt/demo/deploy/
COPY deploy/demo /opt/demo/deploy/demo
# The demo writes here: a database, logs and what it found.
RUN install --directory --owner=10001 --group=10001 /opt/demo/build
VOLUME /opt/demo/build
# vLLM's sampler has a function that torch would compile with g++, which is not in the image.
ENV PATH=/opt/fakesweep/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TORCHDYNAMO_DISABLE=1
USER 10001:10001
WORKDIR /opt/demo
STOPSIGNAL SIGTERM
# The demo is done after some minutes. As a worker it answers on FAKESWEEP_HEALTH_PORT: see README.md beside this file.
HEALTHCHECK NONE
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["python", "-m", "deploy.demo.run"]
