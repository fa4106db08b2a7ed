"""`make test` installs what the tests import, so that a fresh clone has it as well."""

import re
import tomllib

from tests.documents import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
IN_OTHERS = {"gpu", "transformers"}
"""`cpu` takes their place on a machine without a GPU."""


def test_make_test_installs_every_extra() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (asked,) = re.findall(r"installed-test:.*\n.*install\.py (\S+)", text)
    asked_packages = {package for extra in asked.split(",") for package in EXTRAS[extra]}
    missing = {extra for extra in EXTRAS.keys() - IN_OTHERS if not asked_packages.issuperset(EXTRAS[extra])}
    assert missing == set()
