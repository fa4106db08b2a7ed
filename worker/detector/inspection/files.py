"""Checks the files of a model folder without transformers. This takes milliseconds."""

from collections.abc import Callable

from worker.detector.inspection.model import ModelFolder
from worker.detector.weights import refusal, refuse_pointer

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def _check_folder(model: ModelFolder) -> None:
    if not model.folder.exists():
        raise refusal(f"there is no folder {model.folder}", "give a model folder, s3://bucket/prefix or a hub id")
    if not model.folder.is_dir():
        raise refusal(f"{model.folder} is a file", "give the folder that holds config.json and the weights")


def _check_config(model: ModelFolder) -> None:
    if not (model.folder / "config.json").is_file():
        raise refusal(f"{model.folder} holds no config.json", "give a folder with config.json and *.safetensors")
    if not isinstance(model.raw_config.get("model_type"), str):
        raise refusal(f"{model.folder / 'config.json'} names no model_type", "fetch it again")


def _check_transformers_config(model: ModelFolder) -> None:
    """Before _check_config(). Names two folders of classifiers that look nearly right."""
    if not (model.folder / "config.json").is_file() and any(model.folder.glob("*.safetensors")):
        raise refusal(
            f"{model.folder} holds weights and no config.json, so transformers cannot load it; timm keeps models so",
            "put the model into a class of transformers, such as ViTForImageClassification, and save that",
        )
    if (model.folder / "config.json").is_file() and model.raw_config.keys() >= {"architecture", "num_classes"}:
        raise refusal(
            f"{model.folder / 'config.json'} is one of timm ({model.raw_config['architecture']}), not of transformers",
            "put the model into a class of transformers, such as ViTForImageClassification, and save that",
        )


def _check_no_classifier(model: ModelFolder) -> None:
    names = model.raw_config.get("architectures") or []
    if any(str(name).endswith("ForImageClassification") for name in names):
        raise refusal(
            f"{model.folder / 'config.json'} describes a classifier ({names[0]}), which gives no reasons",
            'set kind = "classifier" in detector.toml and describe it as docs/classifiers.md says',
        )


def _check_weights(model: ModelFolder) -> None:
    _ = model.tensors


def _check_tokenizer_and_processor(model: ModelFolder) -> None:
    for kind, names in (("tokenizer", _TOKENIZERS), ("image processor", _PROCESSORS)):
        found = [model.folder / name for name in names if (model.folder / name).is_file()]
        if not found:
            raise refusal(f"{model.folder} holds no {kind}", f"copy it from the base model: {' or '.join(names)}")
        for path in found:
            refuse_pointer(path)


CLASSIFIER_FILE_CHECKS: tuple[Callable[[ModelFolder], None], ...] = (
    _check_folder,
    _check_transformers_config,
    _check_config,
    _check_weights,
)
"""A classifier needs no tokenizer, and its description has the preprocessing."""

FILE_CHECKS: tuple[Callable[[ModelFolder], None], ...] = (
    _check_folder,
    _check_config,
    _check_no_classifier,
    _check_weights,
    _check_tokenizer_and_processor,
)
"""They run in this order. Each raises ConfigurationError, one line with cause and remedy."""
