"""Writes a tower and its head as a classifier that the worker serves, and that transformers alone loads, too."""

import hashlib
import json
from pathlib import Path

from worker.detector.description import FILE, ClassifierDescription
from worker.detector.quiet import quiet_transformers
from worker.lab.training.checkpoint import toml_of
from worker.lab.training.claim import write_json
from worker.lab.training.head.fitting import Head
from worker.lab.training.head.tower import Tower

_PROCESSOR = "preprocessor_config.json"


def publish_head(tower: Tower, head: Head, description: ClassifierDescription, base: Path, output: Path) -> None:
    """Writes config.json, the weights, detector.toml, and the base's preprocessor_config.json to `output`.

    The tower cannot be used after this.
    """
    model = tower.with_head(head.weights, head.bias)
    with quiet_transformers():
        model.save_pretrained(output)
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    # The file of the weights has two number formats: the head's is float32. This one is for those who load the model
    # without a description.
    write_json(output / "config.json", config | {"dtype": description.dtype})
    if (base / _PROCESSOR).is_file():
        processor = json.loads((base / _PROCESSOR).read_text(encoding="utf-8"))
        processor.pop("processor_class", None)  # a LLaVA's, with a tokenizer
        write_json(output / _PROCESSOR, processor)
    checksums = {}
    for shard in sorted(output.glob("*.safetensors")):
        shard.chmod(0o644)  # safetensors makes the file readable only for its owner
        with shard.open("rb") as file:
            checksums[shard.name] = hashlib.file_digest(file, "sha256").hexdigest()
    own = description.model_copy(update={"checksums": checksums})
    (output / FILE).write_text(toml_of(own), encoding="utf-8")
