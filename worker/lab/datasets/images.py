"""Where the images of a dataset are, and what it means if an image cannot be read."""

from pathlib import Path

from pydantic import ValidationError

from worker.errors import ImageError, Reason, StorageUnavailableError
from worker.lab.datasets.records import Cause
from worker.messages import ImageRef
from worker.wording import first_fault


def image_ref(name: str, images: str) -> ImageRef:
    """Returns the ref of the image that a record names: a whole uri, or a name under `images` (s3://bucket/prefix or a
    folder).

    Raises ImageError (not_found) if the name cannot be an address.
    """
    try:
        if name.startswith(("s3://", "file:///")):
            return ImageRef(uri=name)
        if images.startswith("s3://"):
            return ImageRef(uri=f"{images.rstrip('/')}/{name}")
        return ImageRef(uri=Path(images, name).absolute().as_uri())
    except ValidationError as error:
        raise ImageError(Reason.NOT_FOUND, f"not an address of an image: {first_fault(error)}") from None
    except ValueError as error:
        raise ImageError(Reason.NOT_FOUND, f"not an address of an image: {error}") from None


def cause_of(error: ImageError | StorageUnavailableError) -> Cause:
    """Returns why a record whose image could not be fetched or decoded is not used."""
    if isinstance(error, StorageUnavailableError):
        return Cause.STORAGE_UNAVAILABLE
    absent = error.reason in {Reason.NOT_FOUND, Reason.ACCESS_DENIED}
    return Cause.MISSING_IMAGE if absent else Cause.UNREADABLE_IMAGE
