"""Measures the demo detector on drawings that it has not seen: verdicts, and the artefact families it names.

    python deploy/demo/draw.py build/detector/held-out --count 1600 --seed 2
    python deploy/demo/measure.py build/detector/held-out deploy/demo/detector

Greedy answers by transformers' ``generate`` on float32 weights; one JSON object on stdout.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, without an installed package

from deploy.demo.answers import FAMILIES, QUESTION, REAL, named_families
from deploy.demo.checkpoint import normalise
from deploy.demo.lessons import Bytes, load_set

Pairs = list[tuple[dict[str, Any], str]]  # a record and the answer to its image
VERDICT = re.compile(r"\s*This is a (real|fake) image\.")
MAX_NEW_TOKENS = 60  # the longest answer has 37


@torch.inference_mode()
def answer_all(folder: Path, pixels: Bytes, batch: int) -> list[str]:
    """The greedy answer to every image (count, 336, 336, 3)."""
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype="float32").eval()
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    prompt = tokenizer(QUESTION)["input_ids"]
    ids = torch.tensor([[prompt[0], *[prompt[1]] * model.config.image_seq_length, *prompt[2:]]])
    answers: list[str] = []
    for start in range(0, len(pixels), batch):
        values = normalise(pixels[start : start + batch])
        shared = ids.expand(len(values), -1)
        made = model.generate(
            input_ids=shared,
            attention_mask=torch.ones_like(shared),
            pixel_values=values,
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
        )
        answers += tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)
    return answers


def is_right(record: dict[str, Any], answer: str) -> bool:
    """Whether the answer opens with the right verdict; an answer without one is wrong."""
    found = VERDICT.match(answer)
    return found is not None and (found[1] == "real") == (record["label"] == 1)


def named(pairs: Pairs, *, with_verdict: bool = False) -> float:
    """The share of fakes whose answer says their family's key phrase and no other; on request, with a right verdict."""
    hits = (
        named_families(answer) == {record["family"]} and (is_right(record, answer) or not with_verdict)
        for record, answer in pairs
    )
    return sum(hits) / len(pairs)


def summarise(records: list[dict[str, Any]], answers: list[str]) -> dict[str, Any]:
    """Shares overall and by family; ``named_and_right`` asks for the right verdict in the same answer too."""
    pairs = list(zip(records, answers, strict=True))
    families: dict[str, Any] = {}
    for family in (REAL, *FAMILIES):
        own = [(record, answer) for record, answer in pairs if record["family"] == family]
        right = sum(is_right(*pair) for pair in own)
        families[family] = {"n": len(own), "right": right / len(own)}
        if family != REAL:
            families[family] |= {"named": named(own), "named_and_right": named(own, with_verdict=True)}
    fakes = [pair for pair in pairs if pair[0]["label"] == 0]
    return {
        "n": len(pairs),
        "right": sum(is_right(*pair) for pair in pairs) / len(pairs),
        "n_fake": len(fakes),
        "named": named(fakes),
        "named_and_right": named(fakes, with_verdict=True),
        "no_verdict": sum(VERDICT.match(answer) is None for answer in answers),
        "different_answers": len(set(answers)),
        "families": families,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the demo detector on held-out drawings.")
    parser.add_argument("drawings", type=Path, help="a folder written by draw.py with another seed than the training's")
    parser.add_argument("model", type=Path, help="the checkpoint's folder")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--answers", type=Path, help="write every answer there, as JSON Lines")
    options = parser.parse_args()
    started = time.monotonic()
    records, pixels = load_set(options.drawings)
    answers = answer_all(options.model, pixels, options.batch)
    if options.answers:
        lines = [json.dumps({**record, "answer": answer}) for record, answer in zip(records, answers, strict=True)]
        options.answers.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(json.dumps({**summarise(records, answers), "seconds": round(time.monotonic() - started, 1)}, indent=2))


if __name__ == "__main__":
    main()
