"""A tower sees each image once: after an interrupt, in later trainings, and with damaged files in the cache."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.detector.description import ClassifierDescription, Labels, Preprocessing
from worker.errors import ImageError, Reason, StorageUnavailableError
from worker.images import SizeLimits
from worker.lab.datasets.records import Cause, Fault, Record
from worker.lab.evaluation.perturbations import CLEAN, PERTURBATIONS
from worker.lab.training.head.cache import SAVED_AT_ONCE, FeatureCache
from worker.lab.training.head.seeing import Changes, changes_of, show_all
from worker.lab.training.head.tower import features_key
from worker.lab.training.recipe import HeadRecipe
from worker.lab.training.squares import ImageSource
from worker.testing import InMemoryImageStore, ScriptedTower


def png(level: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (20, 30), (level, 0, 255)).save(target, "PNG")
    return target.getvalue()


FILES = [png(10 * number) for number in range(12)]
CONTENTS = [hashlib.sha256(file).hexdigest() for file in FILES]
RECORDS = [Record.model_validate({"image": f"{one}.png", "label": one % 2, "line": one + 1}) for one in range(12)]
ONLY_CLEAN = changes_of(HeadRecipe(), 0)


def shown(
    tower: ScriptedTower,
    cache: FeatureCache,
    changes: Changes = ONLY_CLEAN,
    *,
    files: Sequence[bytes | Exception] = FILES,
) -> tuple[list[str | None], list[Fault], list[int]]:
    """Shows the images in batches of five. Returns the contents, the faults, and the progress that was shown."""
    store = InMemoryImageStore({f"s3://bucket/{number}.png": file for number, file in enumerate(files)})
    source = ImageSource(store, "s3://bucket", Preprocessing(edge=14), SizeLimits(10**6, 1), threads=2)
    faults: list[Fault] = []
    done: list[int] = []
    contents = show_all(
        RECORDS, source, tower, cache, changes, batch_size=5, tell=faults.append,
        advance=lambda count, _of: done.append(count),
    )  # fmt: skip
    return contents, faults, done


def test_each_image_has_its_features_and_progress_is_told(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 3)
    contents, faults, done = shown(ScriptedTower(), cache)
    assert (contents, faults, done) == (CONTENTS, [], list(range(1, 13)))
    for number, content in enumerate(CONTENTS):
        np.testing.assert_allclose(cache[content, CLEAN], [10 * number / 255, 0, 1], atol=1e-6)


def test_a_second_training_shows_the_tower_only_what_is_new(tmp_path: Path) -> None:
    shown(ScriptedTower(), FeatureCache(tmp_path, 3))
    tower = ScriptedTower()
    shown(tower, FeatureCache(tmp_path, 3))
    assert tower.seen == 0
    tower = ScriptedTower()
    shown(tower, FeatureCache(tmp_path, 3), changes_of(HeadRecipe(augment=("flip",)), 0))
    assert tower.seen == 12
    tower = ScriptedTower()
    shown(tower, FeatureCache(tmp_path, 3), files=[*FILES[:11], png(255)])
    assert tower.seen == 1


def test_after_an_interrupt_nothing_is_seen_twice(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        shown(ScriptedTower(ends_after=7), FeatureCache(tmp_path, 3))
    tower = ScriptedTower()
    cache = FeatureCache(tmp_path, 3)
    shown(tower, cache)
    assert tower.seen == 12 - 5
    assert all((content, CLEAN) in cache for content in CONTENTS)


def test_a_kill_loses_only_what_was_not_written(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 1)
    for number in range(SAVED_AT_ONCE + 3):
        cache.add([(f"{number:064x}", CLEAN)], np.full((1, 1), number, np.float32))
    assert len(FeatureCache(tmp_path, 1)) == SAVED_AT_ONCE  # as a process would find it now
    cache.save()
    held = FeatureCache(tmp_path, 1)
    assert len(held) == SAVED_AT_ONCE + 3
    assert held[f"{17:064x}", CLEAN].tolist() == [17]


@pytest.mark.parametrize("damage", [b"", b"PK half", None])
def test_a_damaged_file_costs_only_time(tmp_path: Path, damage: bytes | None) -> None:
    shown(ScriptedTower(), FeatureCache(tmp_path, 3))
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:-200] if damage is None else damage)
    tower = ScriptedTower()
    shown(tower, FeatureCache(tmp_path, 3))
    assert tower.seen == 12
    assert len(FeatureCache(tmp_path, 3)) == 12


def test_features_of_another_width_are_not_used(tmp_path: Path) -> None:
    shown(ScriptedTower(), FeatureCache(tmp_path, 3))
    assert (CONTENTS[0], CLEAN) not in FeatureCache(tmp_path, 4)


def test_only_the_features_that_are_asked_for_are_loaded(tmp_path: Path) -> None:
    shown(ScriptedTower(), FeatureCache(tmp_path, 3))
    cache = FeatureCache(tmp_path, 3)
    assert (len(cache), cache.loaded) == (12, 0)
    np.testing.assert_allclose(cache[CONTENTS[4], CLEAN], [40 / 255, 0, 1], atol=1e-6)
    assert cache.loaded == 1
    with pytest.raises(KeyError):
        cache["0" * 64, CLEAN]
    assert cache.loaded == 1


def test_a_file_that_is_damaged_in_the_middle_costs_only_time(tmp_path: Path) -> None:
    shown(ScriptedTower(), FeatureCache(tmp_path, 3))
    (file,) = tmp_path.glob("*.npz")
    content = bytearray(file.read_bytes())
    first = np.float32(10 / 255).tobytes()
    content[content.index(first)] ^= 1
    file.write_bytes(content)
    tower = ScriptedTower()
    shown(tower, FeatureCache(tmp_path, 3))
    assert tower.seen == 12


def test_another_release_of_transformers_has_features_of_its_own() -> None:
    description = ClassifierDescription(name="a", model="a", labels=Labels(fake=("fake",)))
    assert features_key("0" * 64, description) == features_key("0" * 64, description)
    assert features_key("0" * 64, description, "4.0") != features_key("0" * 64, description, "5.0")


def test_unreadable_images_are_told_also_if_they_are_held_out(tmp_path: Path) -> None:
    files: list[bytes | Exception] = [*FILES]
    files[2], files[5] = b"no image", ImageError(Reason.NOT_FOUND, "no such object")
    tower = ScriptedTower()
    contents, faults, _ = shown(tower, FeatureCache(tmp_path, 3), lambda _content: (), files=files)
    assert [(one.line, one.cause) for one in faults] == [(3, Cause.UNREADABLE_IMAGE), (6, Cause.MISSING_IMAGE)]
    assert contents == [None if number in {2, 5} else one for number, one in enumerate(CONTENTS)]
    assert tower.seen == 0


def test_an_outage_of_the_storage_ends_the_training(tmp_path: Path) -> None:
    files: list[bytes | Exception] = [*FILES]
    files[11] = StorageUnavailableError("away")
    with pytest.raises(StorageUnavailableError):
        shown(ScriptedTower(), FeatureCache(tmp_path, 3), files=files)
    assert len(FeatureCache(tmp_path, 3)) == 10


def test_content_and_seed_choose_the_changes() -> None:
    recipe = HeadRecipe.model_validate({"augment": "all", "copies": 3})
    chosen = [changes_of(recipe, 0)(content) for content in CONTENTS]
    assert chosen == [changes_of(recipe, 0)(content) for content in CONTENTS]
    assert chosen != [changes_of(recipe, 1)(content) for content in CONTENTS]
    assert all(one[0] == CLEAN and len(set(one)) == 4 for one in chosen)
    assert {change for one in chosen for change in one} == set(PERTURBATIONS)
    assert ONLY_CLEAN(CONTENTS[0]) == (CLEAN,)
    assert len(changes_of(HeadRecipe(augment=("flip",)), 0)(CONTENTS[0])) == 2
