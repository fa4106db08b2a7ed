"""The demo: starts everything on this machine, sweeps a folder of images, shows the findings, stops everything.

    .venv/bin/python -m deploy.demo.run [FOLDER]

draw images (without FOLDER) -> start Postgres, Redis, S3 -> migrate -> start a worker -> upload -> scan -> show.
Its files are in build/demo, which is made again for each run. Exit codes: 0 done, 1 failed, 2 bad usage, 130
interrupted.
"""

import os
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from deploy.demo import screen, services
from deploy.demo.processes import Command, StartError, running, sigterm_as_interrupt, tail
from deploy.demo.sweep import Sweep, SweepError
from deploy.demo.upload import upload_folder

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "demo"
DETECTOR = ROOT / "deploy" / "demo" / "detector"
BUCKET = "fakesweep-demo"
DRAWN, SEED = 60, 3  # the detector learned from seed 1 and was measured on seed 2

console = Console(highlight=False)


class UsageError(Exception):
    """The folder cannot be swept. The text says why."""


def main(folder: str) -> int:
    """Runs the demo. Returns the exit code."""
    return ended("make demo", lambda: run(checked(folder, HOME) if folder else None))


def ended(command: str, work: Callable[[], None]) -> int:
    """Does the work until it is done or interrupted. Reports errors of `command` on stderr. Returns the exit code."""
    try:
        with sigterm_as_interrupt():
            work()
    except KeyboardInterrupt:
        print(f"{command}: interrupted; everything is stopped", file=sys.stderr)
        return 130
    except (UsageError, SweepError, StartError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def run(folder: Path | None) -> None:
    """draw -> start parts -> migrate -> start worker -> upload -> scan -> show. Stops everything in reverse order."""
    notice = warned()
    with at_work(folder, HOME) as sweep:
        files = sweep.scan(f"s3://{BUCKET}/")
        screen.show_findings(console, files.results, f"s3://{BUCKET}/")
        if folder is None:
            screen.show_correct(console, files.results, HOME / "records.json")
        for name, path in files._asdict().items():
            console.print(f"{name:8} {_short(path)}", soft_wrap=True)
    screen.warn(console, notice)


def warned() -> str:
    """Prints what the detector is not. Returns the text."""
    notice = str(tomllib.loads((DETECTOR / "detector.toml").read_text(encoding="utf-8"))["notice"])
    screen.warn(console, notice)
    return notice


@contextmanager
def at_work(folder: Path | None, home: Path) -> Iterator[Sweep]:
    """Runs Fakesweep, with the images of the folder, or drawn ones, in S3. `home` is deleted first.

    At the end of the body, everything is stopped in reverse order. Raises StartError and SweepError.
    """
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    images = folder or _draw(home)
    with ExitStack() as stack:
        with shown("Starting Postgres, Redis and S3"):
            endpoint = stack.enter_context(services.s3_server(home))
            sweep = Sweep(
                home=home,
                detector=DETECTOR,
                database_url=stack.enter_context(services.embedded_postgres(home)),
                broker_url=stack.enter_context(services.embedded_redis(home)),
                s3_endpoint=endpoint,
            )
        sweep.migrate()
        with shown(f"Starting the worker; vLLM takes a minute or two (log: {_short(sweep.worker_log)})"):
            stack.enter_context(sweep.worker())
        stack.callback(console.print, "Stopping what was started")
        with shown(f"Uploading {images}") as update:
            uploaded = upload_folder(
                images,
                BUCKET,
                endpoint=endpoint,
                without=home.parent,
                stored=lambda count: update(f"Uploading: {count}"),
            )
        screen.show_upload(console, uploaded)
        yield sweep


def checked(folder: str, home: Path) -> Path:
    """Returns the folder of images. Raises UsageError."""
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise UsageError(f"IMAGES: {folder} is not a folder")
    if path.is_relative_to(home):
        raise UsageError(f"IMAGES: {folder} is in {_short(home)}, which every run deletes first; copy it elsewhere")
    return path


def _short(path: Path) -> str:
    return os.path.relpath(path)


def _draw(home: Path) -> Path:
    """Draws in a process of its own, because a pool of processes does not handle Ctrl-C well."""
    log = home / "draw.log"
    script = ROOT / "deploy" / "demo" / "draw.py"
    command: Command = [sys.executable, script, home, f"--count={DRAWN}", f"--seed={SEED}"]
    with (
        shown(f"Drawing {DRAWN} images, half of them as a camera would see them, half with a generator's artefacts"),
        running("drawing", command, log, lambda _: True) as process,
    ):
        if process.wait():
            raise SweepError(f"drawing failed:\n{tail(log)}")
    return home / "images"


@contextmanager
def shown(what: str) -> Iterator[Callable[[str], None]]:
    """Shows a task and its time on a terminal; elsewhere it prints a line. Yields a function that changes the text."""
    if not console.is_terminal:
        console.print(what, markup=False, soft_wrap=True)
        yield lambda _: None
        return
    columns = SpinnerColumn(finished_text="✓"), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=1)
        yield lambda text: progress.update(task, description=text)
        progress.update(task, completed=1)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # in step with the commands' stderr
    sys.exit(main(*sys.argv[1:2] or [""]))
