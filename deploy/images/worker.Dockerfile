# The worker for NVIDIA GPUs: Fakesweep with vLLM. The wheels bring CUDA; the host brings the driver and the NVIDIA
# container toolkit. deploy/images/build.sh builds it, from the root of the repository.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libgomp1 libnuma1 python3 tini tzdata \
 && rm -rf /var/cache/apt/* /var/lib/apt/lists/* \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && groupadd --gid 10001 fakesweep \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/cache/fakesweep --shell /usr/sbin/nologin \
      fakesweep

FROM base AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ python3-dev python3-pip python3-venv \
 && rm -rf /var/cache/apt/* /var/lib/apt/lists/*
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY deploy/images/requirements/build.txt deploy/images/requirements/compiled.txt \
     deploy/images/requirements/worker.txt ./
RUN python3 -m venv tools \
 && python3 -m venv --without-pip /opt/fakesweep \
 && tools/bin/pip install --require-hashes --no-deps --only-binary :all: -r build.txt \
 && tools/bin/pip wheel --require-hashes --no-deps --no-binary :all: --no-build-isolation --wheel-dir wheels \
      -r compiled.txt \
 && tools/bin/pip --python /opt/fakesweep/bin/python install \
      --require-hashes --no-deps --only-binary :all: -r worker.txt
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

# Triton compiles one C file when it first uses the GPU. It is compiled here, so that the image needs no compiler. The
# empty libcuda.so.1 is only linked against: at run time the host's driver takes its place. Python would import a
# driver.so in place of driver.py.
COPY deploy/images/triton-cc /opt/fakesweep/bin/triton-cc
RUN triton=/opt/fakesweep/lib/python3.11/site-packages/triton/backends/nvidia \
 && gcc -shared -Wl,-soname,libcuda.so.1 -o libcuda.so.1 -x c /dev/null \
 && gcc "$triton/driver.c" -O3 -shared -fPIC -Wno-psabi -I"$triton/include" -I/usr/include/python3.11 \
      -L. -l:libcuda.so.1 -o "$triton/driver.c.so"

FROM base
LABEL org.opencontainers.image.title="fakesweep-worker" \
      org.opencontainers.image.description="Fakesweep's worker for NVIDIA GPUs" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/fakesweep /opt/fakesweep
COPY --from=build /build/sbom /usr/share/sbom
# Models, and what vLLM, torch and Triton compile for the GPU: with a volume, the next start does not do it again.
RUN install --directory --owner=10001 --group=10001 /var/cache/fakesweep
VOLUME /var/cache/fakesweep
ENV PATH=/opt/fakesweep/bin:$PATH HOME=/var/cache/fakesweep USER=fakesweep PYTHONUNBUFFERED=1 \
    CC=/opt/fakesweep/bin/triton-cc \
    HF_HOME=/var/cache/fakesweep/huggingface TRITON_CACHE_DIR=/var/cache/fakesweep/triton \
    TORCHINDUCTOR_CACHE_DIR=/var/cache/fakesweep/torchinductor VLLM_CACHE_ROOT=/var/cache/fakesweep/vllm \
    FAKESWEEP_MODEL_CACHE=/var/cache/fakesweep/models FAKESWEEP_HEALTH_PORT=9100 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /tmp
STOPSIGNAL SIGTERM
EXPOSE 9100
# The first start downloads the model, which takes minutes.
HEALTHCHECK --interval=15s --timeout=6s --start-period=30m \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['FAKESWEEP_HEALTH_PORT'] + '/health', timeout=5)"]
ENTRYPOINT ["/usr/bin/tini", "--", "fakesweep"]
CMD ["worker"]
