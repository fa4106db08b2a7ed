"""A plain script that works like the authors' evaluation: static batches, the raw prompt, substrings, no threads.

`python -m tests.authors_evaluation MODEL BATCH IMAGE... > answers.jsonl`. It shares nothing with the worker's detector:
it uses vLLM's own preprocessing of whole image files, its own limits, and the authors' way to find the verdict. Where
the authors' script chooses at random, it prints null.
"""

import json
import sys
from typing import Any

from PIL import Image

PROMPT = "<image>Does the image looks real/fake?"


def authors_verdict(answer: str) -> str | None:
    """Returns "real" or "fake" if it is part of the first or second sentence; "real" is tried first."""
    for sentence in answer.split(".")[:2]:
        for word in ("real", "fake"):
            if word in sentence.lower():
                return word
    return None


def main(model: str, batch: int, paths: list[str]) -> None:
    """Prints one line of JSON per image: its path, the answer and the verdict."""
    from vllm import LLM, SamplingParams

    llm: Any = LLM(model=model, dtype="float16", max_model_len=800, gpu_memory_utilization=0.2, enforce_eager=True)
    sampling = SamplingParams(temperature=0, max_tokens=4096)
    for start in range(0, len(paths), batch):
        some = paths[start : start + batch]
        inputs = [{"prompt": PROMPT, "multi_modal_data": {"image": Image.open(path)}} for path in some]
        for path, output in zip(some, llm.generate(inputs, sampling, use_tqdm=False), strict=True):
            answer = output.outputs[0].text
            print(json.dumps({"image": path, "answer": answer, "verdict": authors_verdict(answer)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
