# Fakesweep without torch: for producers, `fakesweep web`, `fakesweep nightly` and `fakesweep migrate`.
# deploy/images/build.sh builds it, from the root of the repository.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 tini tzdata \
 && rm -rf /var/cache/apt/* /var/lib/apt/lists/* \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && groupadd --gid 10001 fakesweep \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin fakesweep

FROM base AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-pip python3-venv \
 && rm -rf /var/cache/apt/* /var/lib/apt/lists/*
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY deploy/images/requirements/build.txt deploy/images/requirements/fakesweep.txt ./
RUN python3 -m venv tools \
 && python3 -m venv --without-pip /opt/fakesweep \
 && tools/bin/pip install --require-hashes --no-deps --only-binary :all: -r build.txt \
 && tools/bin/pip --python /opt/fakesweep/bin/python install \
      --require-hashes --no-deps --only-binary :all: -r fakesweep.txt
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
COPY producers producers
COPY migrations migrations
RUN tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir wheels . \
 && tools/bin/pip --python /opt/fakesweep/bin/python install --no-deps --no-index wheels/*.whl
# What is in the image, for scanners: Python's packages, and Debian's as `base` has them.
COPY --from=base /var/lib/dpkg /base/var/lib/dpkg
RUN mkdir sbom \
 && tools/bin/cyclonedx-py environment --output-reproducible --output-file sbom/python.cdx.json /opt/fakesweep \
 && tools/bin/debsbom generate --root /base --sbom-type cdx --out sbom/debian

FROM base
LABEL org.opencontainers.image.title="fakesweep" \
      org.opencontainers.image.description="Fakesweep's commands, web process and nightly scans" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/fakesweep /opt/fakesweep
COPY --from=build /build/sbom /usr/share/sbom
ENV PATH=/opt/fakesweep/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
STOPSIGNAL SIGTERM
# Each command has its own way to say that it is well: see README.md beside this file.
HEALTHCHECK NONE
ENTRYPOINT ["/usr/bin/tini", "--", "fakesweep"]
CMD ["--help"]
