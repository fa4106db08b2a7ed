"""Ways in which a model folder can be bad.

Each is a changed copy of the demo detector, with the error that it must cause.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from tests.conftest import DEMO_DETECTOR

WEIGHTS = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 1\n"  # noqa: E501 - as git-lfs writes it
HUGE = 500_000_000_000  # numbers of 2 bytes: more than fit into any machine that runs these tests


@dataclass(frozen=True)
class Bad:
    """`spoil` makes a good folder bad. `cause` and `remedy` are regular expressions for the error."""

    spoil: Callable[[Path], object]
    cause: str
    remedy: str
    engine: str = "transformers"


def copied(tmp_path: Path, name: str = "copy") -> Path:
    """Returns a copy of a good folder, which may be changed."""
    return shutil.copytree(DEMO_DETECTOR, tmp_path / name)


def broken(way: str, tmp_path: Path) -> Path:
    """Returns a model folder that is bad in this way. If it still is a folder, its detector.toml is good."""
    folder = copied(tmp_path, way.replace(" ", "-"))
    BAD[way].spoil(folder)
    return folder


def unlink(*names: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def edit(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return spoil


def reweigh(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return spoil


def cut(keep: Callable[[int], int]) -> Callable[[Path], object]:
    """Keeps this number of bytes of the weights."""
    return lambda folder: os.truncate(folder / WEIGHTS, keep((folder / WEIGHTS).stat().st_size))


def shards(folder: Path, *present: int) -> None:
    """Writes an index of two files, of which only `present` exist."""
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    parts = [dict(list(tensors.items())[start::2]) for start in (0, 1)]
    for number in present:
        save_file(parts[number], folder / names[number], metadata={"format": "pt"})
    weight_map = {name: names[number] for number in (0, 1) for name in parts[number]}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def sparse(folder: Path, numbers: int = HUGE) -> None:
    """Writes weights that claim this number of 16-bit numbers and use no space on the disk."""
    end = 2 * numbers
    header = json.dumps({"weight": {"dtype": "F16", "shape": [numbers], "data_offsets": [0, end]}}).encode()
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)


def _rename_image_token(tokenizer: dict[str, Any]) -> None:
    token = next(token for token in tokenizer["added_tokens"] if token["content"] == "<image>")
    tokenizer["model"]["vocab"]["<picture>"] = tokenizer["model"]["vocab"].pop("<image>", token["id"])
    token["content"] = "<picture>"


def _as_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("weights?")


def _dangle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(folder / "nowhere")


_UP = "language_model.model.layers.0.mlp.up_proj.weight"
_AGAIN = "fetch it again"
_FOLDER = "give a folder with config.json"

BAD: dict[str, Bad] = {
    "no folder": Bad(shutil.rmtree, "there is no folder /.*no-folder", r"s3://bucket/prefix or a hub id"),
    "a file": Bad(_as_a_file, "/a-file is a file", "give the folder"),
    "no config": Bad(unlink("config.json"), "holds no config.json", _FOLDER),
    "config no JSON": Bad(write("config.json", "{'a': 1}"), "config.json is not JSON", _AGAIN),
    "config a list": Bad(write("config.json", "[]"), "config.json holds no JSON object", _AGAIN),
    "config empty": Bad(write("config.json", "{}"), "config.json names no model_type", _AGAIN),
    "config impossible": Bad(
        edit("config.json", lambda config: config["text_config"].update(hidden_size="big")),
        "config.json is not valid .*hidden_size",
        "correct it",
    ),
    "no weights": Bad(unlink(WEIGHTS), r"holds no weights \(\*\.safetensors\)", _FOLDER),
    "pickled": Bad(
        lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"), "pickled weights only", "safetensors"
    ),
    "no shard": Bad(
        lambda folder: shards(folder, 0), "model-00002-of-00002.safetensors is missing", "fetch it: .*index"
    ),
    "index empty": Bad(write("model.safetensors.index.json", "{}"), "names no files", _AGAIN),
    "dangling link": Bad(_dangle, "model.safetensors is missing", "fetch it: a link"),
    "half": Bad(cut(lambda size: size // 2), r"truncated: it has 1676344 of 3352688 bytes", _AGAIN),
    "one byte short": Bad(cut(lambda size: size - 1), "truncated: it has 3352687 of 3352688 bytes", _AGAIN),
    "header cut": Bad(cut(lambda _: 500), "truncated: it has 500 bytes", _AGAIN),
    "weights empty": Bad(cut(lambda _: 0), "truncated: it has 0 bytes", _AGAIN),
    "weights too long": Bad(cut(lambda size: size + 7), "7 of its bytes belong to no tensor", _AGAIN),
    "pointer": Bad(write(WEIGHTS, POINTER), "git-lfs pointer", "git lfs pull"),
    "tokenizer a pointer": Bad(write("tokenizer.json", POINTER), "tokenizer.json is a git-lfs pointer", "git lfs pull"),
    "a page": Bad(write(WEIGHTS, "<html>404</html>" * 99), "not a safetensors file", _AGAIN),
    "zeros": Bad(write(WEIGHTS, bytes(9999)), "not a safetensors file", _AGAIN),
    "header no tensors": Bad(write(WEIGHTS, b"\x07\0\0\0\0\0\0\0" + b'{"a":1}'), "not a safetensors file", _AGAIN),
    "text only": Bad(
        edit("config.json", lambda config: config.update(config.pop("text_config"))),
        "model of type 'llama', which does not answer about images",
        "vision-language model",
    ),
    "image only": Bad(
        edit("config.json", lambda config: config.update(config.pop("vision_config"))),
        "model of type 'clip_vision_model'",
        "vision-language model",
    ),
    "unknown architecture": Bad(
        edit("config.json", lambda config: config.update(architectures=["NoSuchForConditionalGeneration"])),
        "vLLM [0-9.]+.* does not know the architecture NoSuchForConditionalGeneration",
        "another version of vLLM",
        engine="vllm",
    ),
    "no architecture": Bad(
        edit("config.json", lambda config: config.pop("architectures")), "names none", "another model", engine="vllm"
    ),
    "too large": Bad(
        sparse,
        r"needs at least 2000\.0 GB \(2000\.0 GB of weights as float32, .* for one answer\), but there are only [\d.]+",
        "larger GPU or machine, or on a GPU set FAKESWEEP_QUANTIZATION=fp8_per_tensor",
    ),
    "no tokenizer": Bad(unlink("tokenizer.json"), "holds no tokenizer", "tokenizer.json or tokenizer.model"),
    "no processor": Bad(
        unlink("preprocessor_config.json", "processor_config.json"), "no image processor", "preprocessor_config.json"
    ),
    "tokenizer garbage": Bad(write("tokenizer.json", "{}"), "processor in .* cannot be read", "copy the base model's"),
    "no image token": Bad(
        edit("tokenizer.json", _rename_image_token), "'<image>' is not the model's image token", "set image_placeholder"
    ),
    "another image token": Bad(
        edit("config.json", lambda config: config.update(image_token_index=7)),
        r"'<image>' is not the model's image token \(the tokens \[638\], not 7\)",
        "the tokenizer that belongs to the model",
    ),
    "no tensor": Bad(
        reweigh(lambda tensors: tensors.pop(_UP)), r"layers\.0\.mlp\.up_proj\.weight is missing \(1 such", "belongs to"
    ),
    "another shape": Bad(
        reweigh(lambda tensors: tensors.update({_UP: tensors[_UP][:9]})),
        r"up_proj\.weight is \[9, 128\], not \[352, 128\] \(1 such",
        "the config.json that belongs to these weights",
    ),
    "more layers": Bad(
        edit("config.json", lambda config: config["text_config"].update(num_hidden_layers=6)),
        r"do not fit its config\.json: .*layers\.4.* is missing \(18 such",
        "the config.json that belongs to these weights",
    ),
}
