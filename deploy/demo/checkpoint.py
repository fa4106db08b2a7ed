"""Makes the untrained demo detector: FakeVLM's layout around a LLaVA of about two million random parameters.

python -m deploy.demo.checkpoint build/detector/base --seed 0
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from deploy.demo.answers import QUESTION
from deploy.demo.vocabulary import BOS, EOS, IMAGE_TOKEN, PAD_TOKEN, make_tokenizer
from worker.lab.training.checkpoint import convert_weights

IMAGE_SIZE = 336  # pixels per side, as in FakeVLM
PATCH_SIZE = 14  # (336 / 14)^2 = 576 visual tokens
# OpenAI's CLIP statistics, which CLIPImageProcessor applies to RGB in 0..1.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

DESCRIPTION = f"""\
name = "demo-untrained"
model = "."
prompt = "official-raw"
notice = "Demo detector: this is not FakeVLM. It was trained on drawings and knows nothing of real images."

[prompts]
official-raw = "{QUESTION}"

[answer]
max_tokens = 64

[engine]
dtype = "float32"
enforce_eager = true
"""


def model_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns ``config.json`` in FakeVLM's form, with the demo detector's sizes."""
    image_token = tokenizer.token_to_id(IMAGE_TOKEN)
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "ignore_index": -100,
        "image_seq_length": (IMAGE_SIZE // PATCH_SIZE) ** 2,
        "image_token_index": image_token,
        "pad_token_id": tokenizer.token_to_id(PAD_TOKEN),
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "text_config": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "pad_token_id": tokenizer.token_to_id(PAD_TOKEN),
            "hidden_size": 128,
            "intermediate_size": 352,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 32,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "vocab_size": tokenizer.get_vocab_size(),
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 96,
            "image_size": IMAGE_SIZE,
            "intermediate_size": 384,
            "num_attention_heads": 3,
            "num_hidden_layers": 5,  # layer -2 is the fourth; the fifth is unused, like CLIP's last one
            "patch_size": PATCH_SIZE,
            "projection_dim": 96,
            "vocab_size": tokenizer.get_vocab_size(),
        },
    }


def frequency_filters(count: int, seed: int) -> torch.Tensor:
    """Returns first weights for the patch embedding, (count, 3, 14, 14): cosine waves, weaker at lower frequencies.

    In a patch, brightness has far more energy than grain and grids, and random filters mostly pass brightness on. With
    them, the tower guesses for thousands of images. The waves (the DCT-II basis) are weighted against the 1/f fall of
    image spectra, so that all frequencies count equally. Each wave has a random mix of the three colours.
    """
    positions = (torch.arange(PATCH_SIZE) + 0.5) / PATCH_SIZE
    orders = sorted(((y, x) for y in range(10) for x in range(10)), key=lambda order: (sum(order), order))[:count]
    colours = 1 / 3 + 0.25 * torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    filters = []
    for (down, across), colour in zip(orders, colours, strict=True):
        wave = torch.outer(torch.cos(torch.pi * down * positions), torch.cos(torch.pi * across * positions))
        wave = wave / wave.norm() * (0.05 + 0.5 * (down**2 + across**2) ** 0.5)
        filters.append(colour[:, None, None] * wave)
    return torch.stack(filters)


def make_model(tokenizer: Tokenizer, seed: int) -> LlavaForConditionalGeneration:
    """Returns the detector before training, float32: weights from ``seed``, cosine waves as the patch embedding."""
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(LlavaConfig(**model_config(tokenizer))).float()  # the file says half
    embedding = model.model.vision_tower.embeddings.patch_embedding.weight
    embedding.data.copy_(frequency_filters(len(embedding), seed))
    return model


def processor_configs() -> dict[str, dict[str, Any]]:
    """Returns ``preprocessor_config.json`` and ``processor_config.json`` as in LLaVA-1.5."""
    image = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": IMAGE_SIZE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
    }
    whole = {
        "processor_class": "LlavaProcessor",
        "image_token": IMAGE_TOKEN,
        "patch_size": PATCH_SIZE,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,  # the class token, which "default" drops again
    }
    return {"preprocessor_config.json": image, "processor_config.json": whole}


def save_checkpoint(model: LlavaForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes weights (float16), configuration, tokenizer and processor files, and the description to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        convert_weights(Path(saved), folder, torch.float16)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token=PAD_TOKEN,
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    ).save_pretrained(folder)
    config = model_config(tokenizer)
    generation = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": config["pad_token_id"], "do_sample": False}
    for name, content in {"config.json": config, "generation_config.json": generation, **processor_configs()}.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "detector.toml").write_text(DESCRIPTION, encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Writes the untrained demo detector.")
    parser.add_argument("out", type=Path, help="the folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tokenizer = make_tokenizer()
    save_checkpoint(make_model(tokenizer, options.seed), tokenizer, options.out)


if __name__ == "__main__":
    main()
