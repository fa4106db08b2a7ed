"""What is said about models of the hub, whoever asks for them."""

import re

import structlog

from worker.errors import ConfigurationError

log = structlog.get_logger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str | None) -> bool:
    """Says whether a revision is the full id of a commit. Anything else is a branch or a tag, which may move."""
    return bool(_COMMIT.fullmatch(revision or ""))


def not_on_hub(setting: str, repository: str, error: Exception) -> ConfigurationError:
    """Makes the error for a model that the hub does not supply. `setting` is the variable that names it."""
    cause = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return ConfigurationError(
        f"{setting}: {repository} is not a folder, and the model hub does not supply it "
        f"({type(error).__name__}: {cause[:200]}); download it first and give its folder"
    )


def warn_unless_pinned(repository: str, revision: str | None, commit: str) -> None:
    """Warns about a branch or a tag: its model can change between two starts, and so can every score."""
    if not is_commit(revision):
        log.warning("detector_unpinned", model=repository, revision=revision or "main", commit=commit)
