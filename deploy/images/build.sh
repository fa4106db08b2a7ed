#!/usr/bin/env bash
# Builds the images with docker, podman or buildah: deploy/images/build.sh [fakesweep|demo|worker]...
# Without a name it builds all three. Settings, as environment variables:
#   BUILDER        docker, podman or buildah; by default the first of them that is installed
#   BUILD_OPTIONS  more options for the builder, such as --pull
#   BASE           the Debian 12 image to start from, such as docker.io/library/debian@sha256:...
#   TORCH_INDEX    the package index with torch's CPU build (demo)
#   REPOSITORY     what the images' names begin with, such as registry.example.org/team/
#   VERSION        the images' tag; by default the version in pyproject.toml
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "build.sh: $*" >&2; exit 2; }

for builder in docker podman buildah; do
  [ -n "${BUILDER:-}" ] && break
  if command -v "$builder" >/dev/null; then BUILDER=$builder; fi
done
case "${BUILDER:-}" in
  docker) build=(docker build) ;;
  podman) build=(podman build --format docker) ;; # OCI's format has no HEALTHCHECK
  buildah) build=(buildah build --format docker) ;;
  "") fail "there is no docker, podman or buildah: install one of them" ;;
  *) fail "BUILDER is $BUILDER: give docker, podman or buildah" ;;
esac

[ $# -gt 0 ] || set -- fakesweep demo worker
for name; do
  [ -f "deploy/images/$name.Dockerfile" ] || fail "there is no image $name: give fakesweep, demo or worker"
done

VERSION=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)}
read -ra options <<<"${BUILD_OPTIONS:-}"
if [ -n "${BASE:-}" ]; then options+=(--build-arg "BASE=$BASE"); fi
for name; do
  tag=${REPOSITORY:-}fakesweep
  if [ "$name" != fakesweep ]; then tag=$tag-$name; fi
  arguments=()
  if [ "$name" = demo ] && [ -n "${TORCH_INDEX:-}" ]; then arguments=(--build-arg "TORCH_INDEX=$TORCH_INDEX"); fi
  "${build[@]}" "${options[@]}" "${arguments[@]}" --label "org.opencontainers.image.version=$VERSION" \
    --file "deploy/images/$name.Dockerfile" --tag "$tag:$VERSION" .
done
