"""The study of native sparse attention says what is dense, and how many it compares."""

import json

import pytest

from gpt2.check import prove as proofs
from gpt2.check import run
from gpt2.check.studies import Study, from_defconfig
from gpt2.check.table import print_table
from gpt2.model.costs import count, meta_model
from gpt2.settings.run import run_settings
from kconf.overrides import Overrides
from kconf.study import list_steps
from records import read
from records.doing import doing
from tests.conftest import ROOT
from tests.gpt2.check.alone import Alone

NSA = "nsa-124m-ablation"


def test_what_the_table_says_below(tree, monkeypatch, capsys):
    """At T = 1024 sixteen blocks of 64 are all there are, eight are not."""
    network = [(name, proof) for name, proof in proofs.NETWORK if name == "first loss"]
    monkeypatch.setattr(proofs, "NETWORK", tuple(network))
    monkeypatch.setattr(proofs, "TRAINING", ())
    study: Study = from_defconfig(ROOT, NSA).only("3,11,15")
    short = Overrides({"GPT2_BLOCK_SIZE": "1024"})
    merged = [run.merge_study(tree, study, short)]
    with doing("checking") as activity:
        cases = run._prove_all(Alone(), merged, activity)
    assert [case.verdict.promise for case in cases[0]] == [None] * 3
    print_table([case.verdict for case in cases[0]])
    said = capsys.readouterr().out
    assert "15-top-16: every block is read: 16 (CONFIG_NSA_TOP) of 64" in said
    assert said.count("every block is read") == 1
    assert f"{NSA}: 3 distinct functions" in said


@pytest.mark.parametrize("step", list_steps(ROOT, NSA), ids=lambda step: step.id)
def test_a_summary_can_hold_the_facts(tree, tmp_path, step):
    """Of every step: what a run writes of its model is read back."""
    stages = [ROOT / "defconfigs" / NSA, step.stage]
    shape = run_settings(tree.resolve(stages).values).model
    facts = count(meta_model(shape)).as_dict()
    summary = {"schema": 1, "hash": "0" * 64, "step": 1, "facts": facts}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert read.summary(tmp_path / "summary.json")["facts"]["mixers"]
