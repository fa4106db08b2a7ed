"""The demo detector's tokenizer: in Llama's form, with a vocabulary as small as its answers."""

from __future__ import annotations

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from deploy.demo.answers import QUESTION, every_answer

VOCABULARY = 640  # entries
BOS, EOS = 1, 2  # Llama's ids
IMAGE_TOKEN, PAD_TOKEN = "<image>", "<pad>"


def make_tokenizer() -> Tokenizer:
    """Makes a Llama-like BPE (metaspace, byte fallback, BOS in front), trained on the answers. It encodes any text.

    Ids: <unk> 0, BOS 1, EOS 2, the 256 bytes, the pieces, then <image> and <pad> last, as in FakeVLM's vocabulary.
    Punctuation is split off, so "▁fake" and "▁real" are the same single token wherever the words occur.
    """
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first"), pre_tokenizers.Punctuation()]
    )
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = split
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 261, min_frequency=1, show_progress=False)
    learner.train_from_iterator([*every_answer(), QUESTION.removeprefix(IMAGE_TOKEN)], trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].get)
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={name: index for index, name in enumerate(names)},
            merges=[tuple(merge) for merge in learned["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in ("<unk>", "<s>", "</s>", IMAGE_TOKEN, PAD_TOKEN)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)]
    )
    return tokenizer
