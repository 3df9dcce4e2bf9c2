"""Every step of every study is one difference, and its claims hold at full size.

`make check-all` proves the rest; this is the part that is quick.
"""

import pytest

from gpt2.check import studies
from gpt2.check.proofs import claims
from gpt2.check.subject import Subject
from gpt2.settings.run import run_settings
from kconf.dotconfig import write
from kconf.overrides import Overrides
from kconf.presets import preset_files
from kconf.strict import ConfigError, Tree
from kconf.study import prove
from tests.conftest import ROOT

STUDIES = {study.name: study for study in studies.every(ROOT, Tree(ROOT))}


@pytest.mark.parametrize("name", STUDIES)
def test_steps_are_what_they_claim(tree, name):
    study = STUDIES[name]
    proven = prove(tree, study.stages, study.steps)
    assert len(proven) == len(study.steps) > 1
    for step, resolved, _ in proven:
        settings = run_settings(resolved.values)
        subject = Subject(step.id, settings, settings, dict(step.expect))
        subject.expect.pop("sparsity", None)  # measured by training, in make check
        claims.built_as_configured(subject)
        claims.expectations(subject)


def test_the_ratio_table():
    """The ratio study is complete, and its numbers are those of its design."""
    steps = STUDIES["gpt2-ratio-ablation"].steps
    assert [step.number for step in steps] == list(range(19))
    total = {step.number: int(step.expect["parameters"]) for step in steps}
    base, gated = 124_475_904, 288
    assert total[0] == total[1] == total[5] == base
    assert total[2] == total[6] == 138_640_896
    assert (total[3], total[4], total[7]) == (137_818_944, 138_067_200, 138_067_200)
    assert total[8] == 115_020_288 and total[9] == total[11] == 105_576_960
    assert total[10] == total[12] == 105_202_944
    assert total[13] == total[17] == total[18] == base + gated
    assert total[14] == total[15] == total[9] + gated
    assert total[16] == total[10] + gated


def test_the_loaded_study_has_the_steps_that_are_selected(tmp_path, monkeypatch):
    tree = Tree(ROOT)
    stages = preset_files(ROOT, "gpt2-ratio-ablation", ["tiny", "quick"])
    write(tmp_path / ".config", tree, tree.resolve(stages))
    monkeypatch.setenv("KCONFIG_CONFIG", str(tmp_path / ".config"))

    def numbers(whole: bool, **given: str) -> list[int]:
        found = studies.loaded(ROOT, tree, Overrides(given), whole)
        return [step.number for step in found.steps]

    assert numbers(False) == [0, 2, 8, 9]
    assert numbers(False, RA_MLA_ABLATION_STEPS="1") == [1]
    assert numbers(True) == numbers(False, RA_MLA_ABLATION_STEPS="all")
    assert len(numbers(True)) > 15
    with pytest.raises(ConfigError, match="STEPS=77: .* has no step 77"):
        numbers(False, RA_MLA_ABLATION_STEPS="77")
