"""Variables that say that the hub is not to be asked."""

import pytest

from records.offline import NAMES, OfflineError, offline_by


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["1", "on", "Yes", "TRUE"])
def test_each_of_them_says_so(name, value):
    assert offline_by({name: value}) == f"{name}={value}"


@pytest.mark.parametrize("value", ["", "0", "off", "No", "FALSE"])
def test_none_of_them_says_so(value):
    assert offline_by({}) is None
    assert offline_by(dict.fromkeys(NAMES, value)) is None


def test_a_no_does_not_hide_a_yes():
    """As it does in Hugging Face's own reading: HF_DATASETS_OFFLINE=0 goes online."""
    given = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
    assert (
        offline_by({**given, "TRANSFORMERS_OFFLINE": "1"}) == "TRANSFORMERS_OFFLINE=1"
    )


@pytest.mark.parametrize("value", ["y", "2", "offline"])
def test_what_is_neither_is_refused_by_name(value):
    """These libraries would take it for no, and go online."""
    with pytest.raises(OfflineError, match=f"TRANSFORMERS_OFFLINE='{value}': "):
        offline_by({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": value})
