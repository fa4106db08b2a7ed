"""Where the images of a dataset lie, and what it means when one is not to be had."""

from pathlib import Path

from pydantic import ValidationError

from worker.errors import ImageError, Reason, StorageUnavailableError
from worker.lab.datasets.records import Cause
from worker.messages import ImageRef


def image_ref(name: str, images: str) -> ImageRef:
    """The image that a record names, below the folder or s3://bucket/prefix `images`; a whole uri stands for itself.

    Raises ImageError (not_found) for a name that can be no address.
    """
    try:
        if name.startswith(("s3://", "file:///")):
            return ImageRef(uri=name)
        if images.startswith("s3://"):
            return ImageRef(uri=f"{images.rstrip('/')}/{name}")
        return ImageRef(uri=Path(images, name).absolute().as_uri())
    except ValidationError as error:
        raise ImageError(Reason.NOT_FOUND, f"no address of an image: {error.errors()[0]['msg']}") from None
    except ValueError as error:
        raise ImageError(Reason.NOT_FOUND, f"no address of an image: {error}") from None


def cause_of(error: ImageError | StorageUnavailableError) -> Cause:
    """Why a record is not used whose image could not be fetched or decoded."""
    if isinstance(error, StorageUnavailableError):
        return Cause.STORAGE_UNAVAILABLE
    absent = error.reason in {Reason.NOT_FOUND, Reason.ACCESS_DENIED}
    return Cause.MISSING_IMAGE if absent else Cause.UNREADABLE_IMAGE
