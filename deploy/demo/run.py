"""The demo: starts everything on this machine, sweeps a folder of images, shows the findings, stops everything.

    .venv/bin/python -m deploy.demo.run [FOLDER]

draw images (without FOLDER) -> start Postgres, Redis, S3 -> migrate -> start a worker -> upload -> scan -> show.
What it writes lies in build/demo, made anew each run. Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted.
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
    """The folder cannot be swept; the text says why."""


def main(folder: str) -> int:
    """Runs the demo; its exit code."""
    try:
        with sigterm_as_interrupt():
            run(_checked(folder) if folder else None)
    except KeyboardInterrupt:
        print("make demo: interrupted; everything is stopped", file=sys.stderr)
        return 130
    except (UsageError, SweepError, StartError) as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def run(folder: Path | None) -> None:
    """draw -> start parts -> migrate -> start worker -> upload -> scan -> show; stopped in reverse, however it ends."""
    notice = tomllib.loads((DETECTOR / "detector.toml").read_text(encoding="utf-8"))["notice"]
    screen.warn(console, notice)
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    images = folder or _draw()
    with ExitStack() as stack:
        with _shown("Starting Postgres, Redis and S3"):
            endpoint = stack.enter_context(services.s3_server(HOME))
            sweep = Sweep(
                home=HOME,
                detector=DETECTOR,
                database_url=stack.enter_context(services.embedded_postgres(HOME)),
                broker_url=stack.enter_context(services.embedded_redis(HOME)),
                s3_endpoint=endpoint,
            )
        sweep.migrate()
        with _shown(f"Starting the worker; vLLM takes a minute or two (log: {_short(sweep.worker_log)})"):
            stack.enter_context(sweep.worker())
        stack.callback(console.print, "Stopping what was started")
        with _shown(f"Uploading {images}") as update:
            uploaded = upload_folder(
                images,
                BUCKET,
                endpoint=endpoint,
                without=HOME.parent,
                stored=lambda count: update(f"Uploading: {count}"),
            )
        screen.show_upload(console, uploaded)
        files = sweep.scan(f"s3://{BUCKET}/")
        screen.show_findings(console, files.results, f"s3://{BUCKET}/")
        if folder is None:
            screen.show_correct(console, files.results, HOME / "records.json")
        for name, path in files._asdict().items():
            console.print(f"{name:8} {_short(path)}", soft_wrap=True)
    screen.warn(console, notice)


def _checked(folder: str) -> Path:
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise UsageError(f"IMAGES: {folder} is not a folder")
    if path.is_relative_to(HOME):
        raise UsageError(f"IMAGES: {folder} lies in {_short(HOME)}, which every run makes anew; copy it elsewhere")
    return path


def _short(path: Path) -> str:
    return os.path.relpath(path)


def _draw() -> Path:
    """Draws in a process of its own: a pool of processes and Ctrl-C do not go together."""
    log = HOME / "draw.log"
    script = ROOT / "deploy" / "demo" / "draw.py"
    command: Command = [sys.executable, script, HOME, f"--count={DRAWN}", f"--seed={SEED}"]
    with (
        _shown(f"Drawing {DRAWN} images, half of them as a camera would see them, half with a generator's artefacts"),
        running("drawing", command, log, lambda _: True) as process,
    ):
        if process.wait():
            raise SweepError(f"drawing failed:\n{tail(log)}")
    return HOME / "images"


@contextmanager
def _shown(what: str) -> Iterator[Callable[[str], None]]:
    """Shows what is being done and for how long, on a terminal; elsewhere a line. Yields how to change the text."""
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
