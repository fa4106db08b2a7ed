"""From a description to a model folder on this machine, with the revision that the verdicts will name."""

import hashlib
from pathlib import Path

from worker.detector.description import DetectorDescription
from worker.errors import ConfigurationError


def supply(description: DetectorDescription) -> tuple[DetectorDescription, Path]:
    """The description with its true revision, and the folder that holds config.json and the weights.

    A folder's revision is the checksum of its contents; a hub model is fetched (or found in the cache) and its
    revision is the commit that the branch or tag stood for. Raises ConfigurationError when there is no such model.
    """
    folder = Path(description.model)
    if folder.is_absolute() or folder.is_dir():
        return description.model_copy(update={"revision": f"sha256:{_checksum(folder)}"}), folder.resolve()
    folder = _from_hub(description)
    return description.model_copy(update={"revision": folder.name}), folder


def _checksum(folder: Path) -> str:
    """SHA-256 over the SHA-256s of the configuration and the weights, in the order of their names."""
    if not folder.is_dir():
        raise ConfigurationError(f"FAKESWEEP_MODEL: there is no folder {folder}; give a model folder or a hub id")
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise ConfigurationError(f"FAKESWEEP_MODEL: {folder} holds no config.json with *.safetensors beside it")
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*.json")), *weights]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _from_hub(description: DetectorDescription) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - light users of this package have no hub client

    try:
        return Path(
            snapshot_download(
                description.model, revision=description.revision, allow_patterns=["*.json", "*.safetensors", "*.model"]
            )
        )
    except Exception as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigurationError(
            f"FAKESWEEP_MODEL: {description.model} is neither a folder nor to be had from the model hub "
            f"({type(error).__name__}: {cause[:200]}); fetch it beforehand and give its folder"
        ) from error
