"""Environment variables that look like settings but are none."""

import pytest

from producers.web.settings import WebSettings
from tests.documents import DOCUMENTS
from worker.settings import Settings
from worker.variables import OTHER_BEGINNINGS, OTHERS, names_of, unknown_variables

KNOWN = names_of(Settings) | names_of(WebSettings)


def test_a_misspelt_variable_is_named_with_the_right_name() -> None:
    told = unknown_variables(["FAKESWEEP_THREDS", "FAKESWEEP_THREADS", "HOME", "DATABASE_ULR"], KNOWN)
    assert told == "no setting has the name FAKESWEEP_THREDS (did you mean FAKESWEEP_THREADS?)"


def test_several_variables_are_named_in_one_line() -> None:
    told = unknown_variables(["FAKESWEEP_ZZZ", "FAKESWEEP_WEB_PROT"], KNOWN)
    assert told == "no settings have these names: FAKESWEEP_WEB_PROT (did you mean FAKESWEEP_WEB_PORT?), FAKESWEEP_ZZZ"


@pytest.mark.parametrize(
    "name",
    [
        *sorted(KNOWN | OTHERS),
        *(f"{beginning}3" for beginning in OTHER_BEGINNINGS),
        "fakesweep_threads",  # pydantic-settings reads names in any case
        "FAKESWEEP_WEB_SECRET_FILE",
        "DATABASE_URL",
    ],
)
def test_variables_that_a_process_reads_are_known(name: str) -> None:
    assert unknown_variables([name], KNOWN) is None


def test_a_worker_ignores_the_variables_of_the_desk() -> None:
    own = names_of(Settings)
    assert unknown_variables(["FAKESWEEP_WEB_ANY"], own, beginnings=("FAKESWEEP_WEB_",)) is None
    assert unknown_variables(["FAKESWEEP_WEB_ANY"], own) is not None


def test_every_variable_that_documents_set_is_known() -> None:
    import re

    named = {
        name
        for path in DOCUMENTS
        for name in re.findall(r"\b(FAKESWEEP_[A-Z0-9_]*[A-Z0-9])\b(?=[=`])", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 30
    assert unknown_variables(named, KNOWN) is None
