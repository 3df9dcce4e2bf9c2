"""Every step that leaves as a Hugging Face folder, in a process without this project."""

import pytest

from gpt2.export.architectures import CLASSES
from gpt2.export.transformers_alone import Loaded
from gpt2.settings.run import run_settings
from tests.gpt2.export import table
from tests.gpt2.parcels import values

pytestmark = pytest.mark.slow


def other_mixers(name: str) -> list[str]:
    """Those of a step that are neither attention nor linear attention."""
    pattern = run_settings(values(name)).model.pattern
    return [m for m in dict.fromkeys(pattern) if m not in ("attention", "linear")]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return table.of_hf(table.NAMES, tmp_path_factory.mktemp("hf"))


def test_every_step_of_the_studies_is_loaded_and_the_same(loaded):
    refused = {name for name, found in loaded.items() if isinstance(found, str)}
    assert refused == {name for name in loaded if other_mixers(name)}
    for name in refused:
        wanted = ", ".join(f"MIXER_{mixer.upper()}" for mixer in other_mixers(name))
        assert loaded[name] == f"refused: {wanted}"
    assert len(loaded) == len(table.NAMES) > len(refused) >= 14
    for name in set(loaded) - refused:
        found = loaded[name]
        assert isinstance(found, Loaded) and found.kind in CLASSES.values()
        assert found.missing == found.unexpected == []
        assert table.difference(name, found) <= 1e-5 and found.cached <= 1e-5
        assert found.texts[0] == found.texts[1] and len(found.texts[0]) == 16


@pytest.mark.parametrize("name", ["gpt2-ratio-ablation/05-ra", table.NAMES[-1]])
def test_native_keeps_every_step(name):
    assert table.compared(name, "native") == "exact"
