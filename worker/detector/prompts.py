"""Prompts as named revisions. A revision never changes; another wording is another revision."""

IMAGE_TOKEN = "<image>"  # noqa: S105 - LLaVA's placeholder, not a password

PROMPTS = {
    # The human turn of FakeClue's records, sent by the authors' vLLM evaluation as it is, without a chat template.
    "official-raw": "<image>Does the image looks real/fake?",
    # LLaVA-1.5's chat template around the same words. Worse in third-party reports; here to compare with.
    "llava-chat": "USER: <image>\nDoes the image looks real/fake? ASSISTANT:",
}
