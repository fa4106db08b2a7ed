"""Files that several processes may use at the same time."""

import os
import re
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import ROOT
from worker.errors import ConfigurationError
from worker.files import lock, move_into_place, replacing

HOLD = """\
import sys
from pathlib import Path
from worker.files import lock

file = Path(sys.argv[1]).open("a")
lock(file, "taken")
print("locked", flush=True)
sys.stdin.read()
"""


def write(path: Path, *parts: str) -> None:
    with replacing(path) as file:
        file.writelines(parts)


def test_a_process_keeps_its_lock_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text("before")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder, path.open("a+") as file:
        assert holder.stdout
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigurationError, match=r"^another has it$"):
            lock(file, "another has it")
        holder.kill()
        holder.wait()
        lock(file, "another has it")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text("old")
    with path.open() as reader:
        with replacing(path) as file:
            file.write("né")
            file.flush()
            assert path.read_text() == "old"
            half = Path(file.name)
            assert (half.parent, half.suffix) == (tmp_path, ".json")
            assert half.read_text(encoding="utf-8") == "né"
        assert reader.read() == "old"
    assert path.read_bytes() == "né".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_and_characters_that_cannot_be_encoded(tmp_path: Path) -> None:
    with replacing(tmp_path / "bytes", binary=True) as file:
        file.write(b"\xff")
    with replacing(tmp_path / "text", errors="backslashreplace") as file:
        file.write("\ud83d")
    assert [(tmp_path / name).read_bytes() for name in ("bytes", "text")] == [b"\xff", b"\\ud83d"]


@pytest.mark.parametrize("there", [True, False])
def test_an_error_in_the_block_leaves_only_the_old_file(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "one"
    if there:
        path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write(path, "new" * 10_000 + "\n", "\ud83d")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"] * there


def test_a_disk_that_is_full_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write(path, "longer than ten bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o755])
def test_permission_bits_are_kept(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "one"
    path.touch(bits)
    path.chmod(bits)
    with replacing(path) as file:
        assert Path(file.name).stat().st_mode & 0o777 == bits, "no other users may read the new file"
    assert path.stat().st_mode & 0o777 == bits


def test_a_new_file_has_the_usual_permission_bits(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with replacing(tmp_path / "one"):
        pass
    assert (tmp_path / "one").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_two_writers_at_once_both_write_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "one"
    with replacing(path) as second:
        second.write("second")
        with replacing(path) as first:
            first.write("first")
            assert first.name != second.name
        assert path.read_text() == "first"
        with pytest.raises(ZeroDivisionError), replacing(path):
            _ = 1 / 0
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "one"

    with ThreadPoolExecutor(8) as pool:
        for written in [pool.submit(write, path, letter * 10_000) for letter in "abcdefgh" * 12]:
            written.result()
    assert len(path.read_text()) == 10_000
    assert len(set(path.read_text())) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_half_written_file_of_a_killed_process_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "one"
    code = (
        "import os, sys; from pathlib import Path; from worker.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file: print('half' * 9999, file=file, flush=True); os._exit(9)"
    )
    assert subprocess.call([sys.executable, "-c", code, str(path)], cwd=ROOT) == 9
    (half,) = tmp_path.iterdir()
    with replacing(path) as file:
        assert file.name == str(half)
        file.write("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_place_of_the_half_written_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".one.part").symlink_to("precious")
    write(tmp_path / "one", "new")
    assert [(tmp_path / name).read_text() for name in ("precious", "one")] == ["precious", "new"]


def test_the_file_behind_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to("folder/one")
    for content in ("new", "newer"):
        write(link, content)
        assert link.is_symlink()
        assert (tmp_path / "folder" / "one").read_text() == content


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        write(pipe, "through")
        assert read.result() == "through"
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none/one", "[Errno 2] No such file or directory: '{}'"),
        ("folder", "[Errno 21] Is a directory: '{}'"),
        ("file/one", "[Errno 20] Not a directory: '{}'"),
    ],
)
def test_a_file_that_cannot_be_written_is_an_error_before_the_block(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    path = tmp_path / name
    with pytest.raises(OSError, match=re.escape(said.format(path))) as opened, path.open("w"):
        pass
    with pytest.raises(type(opened.value), match=f"^{re.escape(said.format(path))}$"), replacing(path):
        pytest.fail("the block was entered")


def test_finished_files_and_folders_get_their_names(tmp_path: Path) -> None:
    (tmp_path / "half" / "deep").mkdir(parents=True)
    (tmp_path / "half" / "deep" / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    (tmp_path / "new-two").write_text("new")
    (tmp_path / "two").chmod(0o640)
    move_into_place({tmp_path / "half": tmp_path / "whole", tmp_path / "new-two": tmp_path / "two"})
    assert (tmp_path / "whole" / "deep" / "one").read_text() == "1"
    assert (tmp_path / "two").read_text() == "new"
    assert (tmp_path / "two").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two", "whole"]


def test_no_file_is_moved_if_one_is_missing(tmp_path: Path) -> None:
    (tmp_path / "new-one").write_text("new")
    (tmp_path / "one").write_text("old")
    with pytest.raises(FileNotFoundError):
        move_into_place({tmp_path / "new-one": tmp_path / "one", tmp_path / "new-two": tmp_path / "two"})
    assert (tmp_path / "one").read_text() == "old"
