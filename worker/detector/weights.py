"""Reads the names and headers of a model folder's weights, and finds those that are missing, cut off or not weights."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.errors import ConfigurationError

INDEX = "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_LFS = b"version https://git-lfs"
_HEADER_LIMIT = 100_000_000
"""In bytes: the longest header that the safetensors format allows."""
_FETCH = "fetch it again"


def refusal(cause: str, remedy: str) -> ConfigurationError:
    """Makes the error. Its one line is the last thing that the worker prints."""
    return ConfigurationError(f"FAKESWEEP_MODEL: {cause}; {remedy}")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file's header. `size` is in bytes."""

    shape: tuple[int, ...]
    size: int

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


def weight_files(folder: Path) -> list[Path]:
    """Returns the safetensors files that the index names. Without an index, returns all that there are.

    Raises ConfigurationError if there are none, if one of them is missing, or if all weights are pickled.
    """
    if (folder / INDEX).is_file():
        named = read_json(folder / INDEX).get("weight_map")
        if not isinstance(named, dict) or not named:
            raise refusal(f"{folder / INDEX} names no files (weight_map)", _FETCH)
        files = [folder / name for name in sorted({str(name) for name in named.values()})]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files and any(path for pattern in _PICKLED for path in folder.glob(pattern)):
        raise refusal(f"{folder} holds pickled weights only", "save them as *.safetensors: pickles can run code")
    if not files:
        raise refusal(f"{folder} holds no weights (*.safetensors)", "give a folder with config.json and weights")
    for path in files:
        if not path.is_file():
            raise refusal(
                f"{path} is missing", f"fetch it: {INDEX if (folder / INDEX).is_file() else 'a link'} names it"
            )
    return files


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file that must hold one JSON object."""
    refuse_pointer(path)
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise refusal(f"{path} is not JSON ({error})", _FETCH) from error
    if not isinstance(content, dict):
        raise refusal(f"{path} holds no JSON object", _FETCH)
    return content


def refuse_pointer(path: Path) -> None:
    """Raises ConfigurationError if the file is only the pointer that git-lfs leaves before it fetches the file."""
    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise refusal(f"{path} is a git-lfs pointer, not the file itself", "run git lfs pull in its repository")


def read_header(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file. It reads only the header.

    This does not use safe_open, which maps the whole file: that fails if the file is larger than the machine's memory,
    and safe_open says "header too large" of an HTML page. Raises ConfigurationError if the file is not what it says.
    """
    refuse_pointer(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _HEADER_LIMIT:
            raise refusal(f"{path} is not a safetensors file", _FETCH)
        if size < 8 + length or size == 0:
            raise refusal(f"{path} is truncated: it has {size} bytes, which is less than its header", _FETCH)
        header = file.read(length)
    try:
        tensors = {
            name: Tensor(tuple(entry["shape"]), entry["data_offsets"][1] - entry["data_offsets"][0])
            for name, entry in json.loads(header).items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise refusal(f"{path} is not a safetensors file", _FETCH) from error
    expected = 8 + length + sum(tensor.size for tensor in tensors.values())  # the format leaves no gaps
    if size < expected:
        raise refusal(f"{path} is truncated: it has {size} of {expected} bytes", _FETCH)
    if size > expected or not tensors:
        raise refusal(f"{path} is not a safetensors file: {size - expected} of its bytes belong to no tensor", _FETCH)
    return tensors
