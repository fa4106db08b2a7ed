"""A detector that is not a LLaVA: a Qwen2-VL of 0.3 million parameters, with its own question and words.

    python -m tests.second_detector build/second-detector

Only its detector.toml makes it different from FakeVLM for our code, which is what the tests show. It calls bright
images synthetic and dark ones authentic. It learns that in seconds, from seeded weights and seeded noise.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoProcessor, PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from worker.images import Fit, to_square

EDGE = 112  # pixels: 8 x 8 patches of 14 pixels, merged 2 by 2 into 16 visual tokens
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
PROMPT = (
    "<|im_start|>system\nYou examine where images come from.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Where does this image come from?<|im_end|>\n"
    "<|im_start|>assistant\n"
)
SYNTHETIC = "Provenance: synthetic. The light comes from nowhere, and the grain is too even for a lens."
AUTHENTIC = "Provenance: authentic. The grain is that of a sensor in little light."

DESCRIPTION = """\
# A Qwen2-VL in miniature, trained on noise: bright images are synthetic to it. It exists for the tests.
name = "brightness"
model = "."
prompt = "chat"
image_placeholder = "<|image_pad|>"
notice = "Test detector: it knows bright from dark and nothing else."

[prompts]
chat = '''
<|im_start|>system
You examine where images come from.<|im_end|>
<|im_start|>user
<|vision_start|><|image_pad|><|vision_end|>Where does this image come from?<|im_end|>
<|im_start|>assistant
'''

[answer]
fake = "Provenance: synthetic."
real = "Provenance: authentic."
fake_word = "synthetic"
real_word = "authentic"
# The built-in reading knows "This is a fake image." and its relatives, but no provenance.
pattern = 'provenance:\\s*(?:(?P<fake>synthetic)|(?P<real>authentic))\\b'
max_tokens = 48

[preprocessing]
edge = 112
fit = "pad"

[engine]
dtype = "float32"
max_model_len = 192
enforce_eager = true

[thresholds]
fake_from = 0.8
real_to = 0.3
"""


def draw(seed: int, level: float | None = None) -> Image.Image:
    """Returns grey noise of 160 x 96.

    Its mean is `level`, or 140 to 220 if the seed is even, or 30 to 110 if it is odd.
    """
    generator = np.random.default_rng(seed)
    if level is None:
        level = generator.uniform(140, 220) if seed % 2 == 0 else generator.uniform(30, 110)
    pixels = generator.normal(level, 16, size=(96, 160, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def build(folder: Path, *, seed: int = 1) -> None:
    """Writes detector.toml, weights, configuration, tokenizer and processor into `folder`. It takes ten seconds on one
    core.

    It uses one thread: with such small tensors, several threads only wait for each other, for minutes on a busy
    machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "detector.toml").write_text(DESCRIPTION, encoding="utf-8")
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_preprocessor_config(), indent=2), encoding="utf-8")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = Qwen2VLForConditionalGeneration(_config(tokenizer))
            _train(model, AutoProcessor.from_pretrained(folder), seed)
    finally:
        torch.set_num_threads(threads)
    model.generation_config.update(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Makes a tokenizer of Qwen's kind: byte-level BPE, learnt from the prompt and the answers.

    " synthetic" and " authentic" are tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=1, show_progress=False
    )
    words = PROMPT
    for name in SPECIAL:
        words = words.replace(name, "\n")
    tokenizer.train_from_iterator([words, SYNTHETIC, AUTHENTIC], trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _preprocessor_config() -> dict[str, Any]:
    """Returns the file of Qwen2-VL's repositories. With EDGE x EDGE as both limits, such images are not resized."""
    return {
        "processor_class": "Qwen2VLProcessor",
        "image_processor_type": "Qwen2VLImageProcessor",
        "min_pixels": EDGE * EDGE,
        "max_pixels": EDGE * EDGE,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def _config(tokenizer: PreTrainedTokenizerFast) -> Qwen2VLConfig:
    """The heads are 32 wide, the smallest width that vLLM's attention on CPUs supports."""
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "initializer_range": 0.08,  # Qwen's 0.02 is right for widths in the thousands
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    vision = {
        "depth": 1,
        "embed_dim": 64,
        "hidden_size": 64,
        "num_heads": 2,
        "mlp_ratio": 2,
        "initializer_range": 0.05,
    }
    return Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        dtype="float32",
    )


def _train(
    model: Qwen2VLForConditionalGeneration, processor: Any, seed: int, *, steps: int = 80, images: int = 64
) -> None:
    """Trains on the tokens of the answers only, with all weights, as FakeVLM was trained."""
    drawn = [to_square(draw(number), edge=EDGE, fit=Fit.PAD) for number in range(images)]
    texts = [PROMPT + (SYNTHETIC, AUTHENTIC)[number % 2] + "<|im_end|>" for number in range(images)]
    inputs = processor(images=drawn, text=texts, padding=True, padding_side="right", return_tensors="pt")
    prompt = processor(images=drawn[:1], text=[PROMPT], return_tensors="pt")["input_ids"].shape[1]
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    labels[:, :prompt] = -100
    inputs["pixel_values"] = inputs["pixel_values"].unflatten(0, (images, -1))  # patches of an image together
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    model.train()
    for _ in range(steps):
        chosen = torch.randperm(images, generator=generator)[:16]
        batch = {name: tensor[chosen] for name, tensor in inputs.items()}
        batch["pixel_values"] = batch["pixel_values"].flatten(0, 1)
        loss = model(**batch, labels=labels[chosen]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


if __name__ == "__main__":
    build(Path(sys.argv[1]))
