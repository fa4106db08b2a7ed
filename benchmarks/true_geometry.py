"""Does a model of FakeVLM's true size load, judge and stop cleanly, and how fast? Its weights and verdicts are random.

    python -m benchmarks.true_geometry                                          bfloat16 on one GPU
    python -m benchmarks.true_geometry --quantization fp8_per_tensor --kv-cache-dtype fp8
    python -m benchmarks.true_geometry --size tiny --images 64                  to try the script on a CPU

It does what the worker does: description, detector.supply with its inspection, engine, warm-up, judge, close. Prints
one JSON line. With random weights, every answer reaches its limit, so --tokens is the length of each answer.
"""

import argparse
import json
import re
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlavaConfig, LlavaForConditionalGeneration

from benchmarks import DEMO_DETECTOR
from deploy.demo.checkpoint import model_config
from worker.detector.description import vlm_only
from worker.detector.detector import warm_up
from worker.detector.loading import load_description
from worker.detector.supply import supply
from worker.detector.vllm_engine import VllmEngine
from worker.detector.vlm import VlmDetector
from worker.messages import Explain
from worker.settings import Settings

SHARD_BYTES = 2 * 2**30
MESSAGE = 16  # images
VOCABULARY = 32064

SIZES: dict[str, dict[str, dict[str, int]]] = {
    # Vicuna-7B and CLIP ViT-L/14-336, as in FakeVLM's config.json.
    "true": {
        "text_config": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "head_dim": 128,
                        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": VOCABULARY},
        "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                          "num_attention_heads": 16, "projection_dim": 768},
    },
    "tiny": {"text_config": {"vocab_size": VOCABULARY}, "vision_config": {}},
}  # fmt: skip


def write_model(folder: Path, size: str) -> int:
    """Writes a checkpoint of this size in FakeVLM's layout, with random bfloat16 weights. Returns its parameters."""
    tokenizer = Tokenizer.from_file(str(DEMO_DETECTOR / "tokenizer.json"))
    config = model_config(tokenizer)
    tokenizer.add_tokens([f"filler{number}" for number in range(tokenizer.get_vocab_size(), VOCABULARY)])
    for section, sizes in SIZES[size].items():
        config[section] |= sizes
    for path in DEMO_DETECTOR.glob("*.json"):
        shutil.copy(path, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    text = (DEMO_DETECTOR / "detector.toml").read_text(encoding="utf-8").replace("max_tokens = 64", "max_tokens = 200")
    text = text.partition("[checksums]")[0]  # these are for the demo detector's own weights
    eager = "enforce_eager = true"  # for CPUs; on a GPU, CUDA graphs are part of the measurement
    text = text.replace(eager, "") if torch.cuda.is_available() else text
    (folder / "detector.toml").write_text(text, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with torch.device("meta"):
        shapes = {old_name(name): tuple(weight.shape) for name, weight in _weights(config)}
    torch.manual_seed(0)
    shard: dict[str, torch.Tensor] = {}
    places: dict[str, str] = {}
    for name, shape in shapes.items():
        shard[name] = torch.randn(shape, dtype=torch.bfloat16) * 0.02
        file = f"model-{len(set(places.values())) + 1:05}.safetensors"
        if sum(tensor.nbytes for tensor in shard.values()) > SHARD_BYTES or name == list(shapes)[-1]:
            save_file(shard, folder / file, metadata={"format": "pt"})
            places |= dict.fromkeys(shard, file)
            shard = {}
    parameters = sum(int(np.prod(shape)) for shape in shapes.values())
    index = {"metadata": {"total_size": 2 * parameters}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return parameters


# transformers 5's names in memory -> FakeVLM's names on disk.
RENAMES = (
    (r"^model\.vision_tower\.(?!vision_model\.)", "vision_tower.vision_model."),
    (r"^model\.vision_tower\.", "vision_tower."),
    (r"^model\.multi_modal_projector\.", "multi_modal_projector."),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
)


def old_name(name: str) -> str:
    """Returns FakeVLM's name on disk for the name of a weight in memory."""
    for pattern, replacement in RENAMES:
        renamed, found = re.subn(pattern, replacement, name)
        if found:
            return renamed
    return name


def _weights(config: dict[str, Any]) -> list[tuple[str, torch.Tensor]]:
    return list(LlavaForConditionalGeneration(LlavaConfig(**config)).state_dict().items())


def rate(engine: VllmEngine, images: list[Image.Image], tokens: int) -> float:
    """Returns images per second in messages of sixteen on 32 threads, as the worker sends them."""
    messages = [images[start : start + MESSAGE] for start in range(0, len(images), MESSAGE)]
    began = time.perf_counter()
    with ThreadPoolExecutor(32) as threads:
        for answers in threads.map(
            lambda some: engine.complete(some, explain=Explain.ALL, max_tokens=tokens), messages
        ):
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
    return len(images) / (time.perf_counter() - began)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Loads a model of FakeVLM's size, judges with it, and stops it.")
    parser.add_argument("--size", choices=SIZES, default="true")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--tokens", type=int, nargs="+", default=[6, 120], help="length of each answer, for each case")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--quantization")
    parser.add_argument("--kv-cache-dtype", default="auto")
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    parser.add_argument("--max-num-batched-tokens", type=int, default=2048)
    parser.add_argument("--max-num-seqs", type=int, default=384)
    parser.add_argument("--stall-s", type=float, default=600)
    options = parser.parse_args()
    given = {
        name: value for name, value in vars(options).items() if name not in {"size", "images", "tokens", "stall_s"}
    }
    noise = np.random.default_rng(0)
    images = [Image.fromarray(noise.integers(0, 255, (336, 336, 3), dtype=np.uint8)) for _ in range(options.images)]
    with tempfile.TemporaryDirectory() as name:
        parameters = write_model(Path(name), options.size)
        settings = Settings(detector=name, engine_stall_s=options.stall_s, **given)
        began = time.perf_counter()
        description, folder = supply(vlm_only(load_description(settings), "this benchmark"), settings)
        inspected = time.perf_counter()
        engine = VllmEngine(description, folder, settings)
        warm_up(VlmDetector(engine, description))
        started = time.perf_counter()
        found = {f"images_per_s_{tokens}_tokens": round(rate(engine, images, tokens), 2) for tokens in options.tokens}
        stopping = time.perf_counter()
        engine.close()
        times = {
            "inspect_s": inspected - began,
            "start_s": started - inspected,
            "stop_s": time.perf_counter() - stopping,
        }
    left = [
        child.name()
        for child in psutil.Process().children(recursive=True)
        if "VLLM" in child.name() and child.status() != psutil.STATUS_ZOMBIE
    ]
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(
        json.dumps(
            {"device": card, "parameters": parameters, "images": options.images, **given}
            | {name: round(seconds, 1) for name, seconds in times.items()}
            | found
            | {"processes_left": left}
        )
    )


if __name__ == "__main__":
    main()
