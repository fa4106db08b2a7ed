"""Commands that are imported when they are called."""

from importlib import import_module
from typing import Any, cast

from typer import Context, Typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

COMMANDS = {
    "scan": ("scans", "Publish every image of SOURCE that is not known yet, and print the scan's id."),
    "pause": (
        "scans",
        "Stop publishing and judging the images of SCAN until it is resumed. What is being judged is finished.",
    ),
    "resume": ("scans", "Continue SCAN, after a pause or after its producer was killed."),
    "cancel": ("scans", "Cancel SCAN. Its findings stay. Its other images are never judged. This cannot be undone."),
    "repair": (
        "scans",
        "List the source of SCAN again and publish images without an outcome: new objects, and what was lost.",
    ),
    "retry": (
        "scans",
        "Judge failed images of SCAN again: those whose storage or engine failed, or those of --reason.",
    ),
    "submit": ("live", "Put images on the live queue, ahead of every scan, and print the submission's id."),
    "listen": ("live", "Put new objects of S3 on the live queue, until SIGTERM."),
    "status": ("findings", "Show how far a scan is, or the newest scans."),
    "results": ("findings", "Write a scan's findings as JSON Lines, one line per finding."),
    "report": ("findings", "Write a scan's report: one HTML file that opens offline."),
    "flagged": (
        "findings",
        "Show flagged contents, the newest first: each content once, with the places where it was found.",
    ),
    "history": ("findings", "Show what every scan found at URI and what people decided about it, newest first."),
    "events": ("events", "Show who did what, the newest last: pauses, limits, tokens, reviewers, retention, and more."),
    "retention": (
        "retention",
        "Drop the findings of old scans and submissions. Scans, verdicts, objects and reviews stay.",
    ),
    "drop": ("retention", "Drop the findings of SCAN, which has ended. The scan, its verdicts and its reviews stay."),
    "forget": (
        "forget",
        "Remove what points to a person's picture. What was decided about it stays, under its SHA-256.",
    ),
    "reviewer": ("reviewers", "Add, list or disable people who may review."),
    "web": ("web", "Serve the review desk and the API until SIGTERM: pages where people decide about images."),
    "token": ("tokens", "Make, list or withdraw tokens of the API."),
    "webhooks": ("webhooks", "Send webhooks until SIGTERM, or look after the endpoints that get them."),
    "dead": ("dead", "List, show, replay or discard dead letters: messages that no worker could handle."),
    "evaluate": (
        "evaluation",
        "Measure a detector on labelled images: predictions.jsonl, metrics.json and report.html.",
    ),
    "calibrate": (
        "evaluation",
        (
            "Fit a detector's calibration and thresholds on one evaluation and measure them on another. "
            "For a cascade: find its clear threshold (--max-miss-rate)."
        ),
    ),
    "compare": (
        "evaluation",
        "Compare two detectors on the same images: McNemar's test, who is better where, and where they disagree.",
    ),
    "stack": ("stack", "Combine several detectors into one score: fit it, say whether it helps, and store it."),
    "leaderboard": (
        "leaderboard",
        "Rank detectors on several sets: accuracy, ROC AUC, fakes caught; by category, generator and perturbation.",
    ),
    "train": (
        "training",
        "Train a detector on labelled images, evaluate it, and leave a folder that the worker serves.",
    ),
    "export": (
        "datasets",
        "Write what people reviewed or labelled as FakeClue's records, in train.json, validation.json and test.json.",
    ),
    "annotate": (
        "datasets",
        "Write explanations for labelled images, through any OpenAI-compatible endpoint. Costs money; can be resumed.",
    ),
    "audit": ("audit", "Build and verify audit packages: what was decided, by whom and under which rules, signed."),
    "dsa": (
        "dsa",
        "Write statements of reasons for the DSA Transparency Database, and count errors for the yearly report.",
    ),
    "migrate": ("system", "Bring the database's schema up to date. If several are started at once, one does it."),
    "roles": (
        "system",
        "Make the database's roles, and give each the rights that it needs and no others. It can be run again.",
    ),
    "worker": ("system", "Run a worker: take messages, judge their images, write findings."),
    "nightly": ("system", "Start the scans of the file FAKESWEEP_NIGHTLY when they are due, until SIGTERM."),
    "publish": ("system", None),
    "check": (
        "check",
        "Check settings, connections, rights, the model and the GPU, and say what to do about what is wrong.",
    ),
}
"""The commands as help lists them: the module of each, and the first paragraph of its help; None for a hidden one."""


class LazyCommand(TyperCommand):
    """A command as `fakesweep --help` lists it. Its options, its own help and its code are in its module."""

    def __init__(self, name: str) -> None:
        self._module, text = COMMANDS[name]
        super().__init__(name, help=text, hidden=text is None)

    def load(self) -> Any:
        """The command itself."""
        return get_group(import_module(f"producers.commands.{self._module}").app).commands[str(self.name)]

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Context:
        """The context of the real command, so that invoking it runs that command."""
        context: Context = self.load().make_context(info_name, args, parent=parent, **extra)
        return context


def group_of(app: Typer) -> TyperGroup:
    """All commands, as a group with the name and the help of `app`."""
    group = cast(TyperGroup, get_command(app))  # with the options for the completion of a shell
    for name in COMMANDS:
        group.add_command(LazyCommand(name))
    return group
