"""The first page of a report: question, a sentence per arm, how the numbers were made."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from matrix.report import answers, overview, sections
from matrix.evidence.verdict import RULE
from matrix.report.document import Notice, Table, Text
from matrix.results import publication, step_changes
from matrix.results.metrics import METRICS
from matrix.results.selection import SCREEN, Terms
from tests.matrix.imagined import PLANNING, evidence, report, run, study, verdict

D = {2: -0.01, 5: -0.02, 9: -0.0123}
LOSSES = {"04-control": {9: [3.1], 2: [3.2]}, "03-arm": {9: [3.0], 2: [3.3]}}
SURE = replace(PLANNING, power=(0.9, 0.95, 0.99))
CLAIM = {"planning": SURE}
AA = verdict("07-again", "A/A", D, measured={"planning": None, "level": 0.05})


@pytest.mark.parametrize(
    "made, terms, text",
    [
        (
            verdict("a", "SUPPORTED", D, direction="better", measured=CLAIM),
            Terms(),
            "lowers the validation loss by 0.01230 nats/token (98 % interval 0.00100 to 0.01900, "
            "3 seeds): SUPPORTED better.",
        ),
        (
            verdict(
                *("a", "LIMITED", D),
                direction="better",
                measured={**CLAIM, "difference": 70.0, "interval": (60.0, 80.0)},
            ),
            Terms(METRICS["tokens_per_s"], smallest=50.0),
            "raises tokens_per_s by 70 tokens/s (98 % interval 60 to 80, 3 seeds): "
            "LIMITED better.",
        ),
        (
            verdict("a", "NEUTRAL", D, measured={"narrow": (-0.001, 0.0015)}),
            Terms(),
            "changes the validation loss by less than 0.00200 nats/token (90 % interval -0.00100 to "
            "+0.00150, 3 seeds): NEUTRAL.",
        ),
        (
            verdict("a", "UNRESOLVED", D, measured={}),
            Terms(),
            "measured -0.01230 nats/token (98 % interval -0.01900 to -0.00100, better in "
            "3 of 3 seeds, Holm p 0.0046): UNRESOLVED; could have seen 0.00410–0.00830 "
            "(80 % power); 0.00200 takes 11–46 seeds.",
        ),
        (
            verdict("a", "UNRESOLVED", {2: -1.0, 5: -2.0, 9: 0.5}, measured={}),
            Terms(METRICS["tokens_per_s"], smallest=0.001),
            "measured -0.0123 tokens/s (98 % interval -0.019 to -0.001, worse in 2 of 3 "
            "seeds, Holm p 0.0046): UNRESOLVED; could have seen 0.0041–0.0083 (80 % "
            "power); 0.001 takes 11–46 seeds.",
        ),
        (
            AA,
            Terms(),
            "measured -0.01230 nats/token (95 % interval -0.01900 to -0.00100, 3 seeds): "
            "A/A; another initialisation, no claim.",
        ),
        (
            verdict("a", "INVALID", D, reasons=("seed 2 failed", "x")),
            Terms(),
            "INVALID; seed 2 failed; x.",
        ),
    ],
    ids=["lowers", "raises", "neutral", "open", "slower", "again", "lost"],
)
def test_the_sentence_of_an_arm(made, terms, text):
    assert answers.sentence(evidence([made], terms), made) == text


def test_the_question():
    made = report(study(LOSSES), evidence([verdict("03-arm", "INVALID", {}), AA]))
    assert answers.question(made) == (
        "How do 1 arm and 1 A/A arm compare with the control 04-control in validation "
        "loss in nats/token, the last evaluation? The control's is 3.1500. Differences "
        "are arm minus control, paired by seed: lower is better. The smallest effect of "
        "interest is 0.00200 nats/token."
    )


def test_the_first_page():
    """The question, a line per arm, announced or not, what bears on it; no more."""
    found = evidence(
        [verdict("03-arm", "SUPPORTED", D, direction="better", measured={})]
    )
    whole = study(LOSSES, every={"run": {"data_dir": "/nowhere/corpus"}})
    made = report(whole, found)
    blocks = overview.section(made).blocks
    assert [type(block) for block in blocks] == [Text, Table, Text]
    assert blocks[0].text.startswith("How does 1 arm compare with the control ")
    assert blocks[1].rows[0][:2] == ("03-arm", "SUPPORTED better")
    assert blocks[2].text.startswith("Not preregistered")
    assert blocks[2].text.endswith("4 of 4 runs finished: 2 steps × 2 seeds (2, 9).")
    deviating = report(whole, found, deviations=("α changed",))
    notice = overview.section(deviating).blocks[3]
    assert isinstance(notice, Notice) and notice.lines == ("α changed",)
    screening = report(whole, evidence(found.verdicts, Terms(stage=SCREEN)))
    assert [type(b) for b in overview.section(screening).blocks] == [Text]


def test_a_warning_about_speeds_stands_with_the_speeds():
    """On the first page only where the metric is a speed."""
    found = evidence([verdict("03-arm", "SUPPORTED", D, measured={})])
    shared = ("2 runs shared a device",)
    made = replace(
        report(study(LOSSES), found), warnings=("dtype", *shared), shared=shared
    )
    assert overview.section(made).blocks[-1].lines == ("dtype",)
    assert shared in [
        block.lines
        for block in sections.time_and_memory(made).blocks
        if isinstance(block, Notice)
    ]
    timed = replace(found, terms=Terms(METRICS["tokens_per_s"], smallest=50.0))
    notice = overview.section(replace(made, evidence=timed)).blocks[-1]
    assert notice.lines == ("dtype", *shared)


def test_how_the_runs_were_trained():
    """The control's values, and the steps whose values are others."""
    made = report(
        study(
            {"04-control": {2: [3.0]}, "03-arm": {2: [3.0]}, "05-arm": {2: [3.0]}},
            every={"config": {"LEARNING_RATE": "6e-4", "OPTIMIZER_ADAMW": True}},
            **{"03_arm": {"config": {"LEARNING_RATE": "1e-3"}}},
        ),
        evidence([]),
    )
    table, *_ = overview.setup(made).blocks
    rows = {label: (control, others) for label, control, others in table.rows}
    assert rows["Optimizer"] == ("adamw", "")
    control, others = rows["Learning rate"]
    assert control.startswith("6e-4 to ") and others.startswith("03-arm: 1e-3 to ")
    assert "05-arm" not in others
    assert rows["Batch"] == ("not recorded", "")


def test_the_folded_end():
    """Terms, rule, environment and code, behind everything else."""
    found = evidence([verdict("03-arm", "SUPPORTED", D, measured={})])
    made = report(study(LOSSES, every={"run": {"data_dir": "/nowhere/corpus"}}), found)
    section = overview.provenance(made)
    assert section.folded and sections.SECTIONS[-1] is overview.provenance
    labels = [label for label, _ in section.blocks[0].rows]
    origin = [label for label, _ in publication.ORIGIN]
    assert labels == (
        ["Terms", "Registration", "Newest run", *origin, "Dataset", "Commit"]
    )
    assert section.blocks[1].text == RULE


# -- how the numbers were made


def test_the_facts_of_runs():
    """One value, several, none: never a guess."""
    config = {"LEARNING_RATE": "6e-4", "ADAM_BETA1": None, "GPT2_BLOCK_SIZE": 1024}
    facts = {"effective_batch": 16, "compile": True, "dtype": "bf16"}
    one = run("a", 1, [3.0], config=config, summary={"tokens": 4096, "facts": facts})
    other = run(
        *("b", 2, [3.0]),
        config={**config, "LEARNING_RATE": "1e-3"},
        summary={"tokens": 4096, "facts": {**facts, "compile": False}},
    )
    told = dict(publication.facts(publication.of_runs([one, other])))
    assert told["Tokens"].startswith(
        "4,096, optimizer steps not recorded, budget tokens"
    )
    assert told["Batch"].startswith("16 sequences (micro-batch not recorded × ")
    assert told["Context"] == "1,024 tokens"
    assert told["Learning rate"].startswith("6e-4 / 1e-3 to not recorded (cosine)")
    assert told["Hyperparameters"].startswith("β inactive, not recorded, ")
    assert told["Compute"] == "bf16, torch.compile on / off"
    assert list(told) == [label for label, _ in publication.SETUP + publication.ORIGIN]
    many = publication.facts(lambda name: range(7))
    assert dict(many)["Context"] == "0 / 1 / 2 / 3 / 3 more tokens"
    assert dict(publication.facts(lambda name: []))["Context"] == "not recorded"


# -- what a step changes

FRAGMENT = "# Help: wider\nCONFIG_GPT2_WIDTH=96\n# CONFIG_GPT2_BIAS is not set\n"


def changes(fragment, **config):
    """Of an arm that has these values where its control has others."""
    base = {
        "GPT2_WIDTH": 64,
        "GPT2_BIAS": True,
        "MLP_DIM": 256,
        "LEARNING_RATE": "6e-4",
    }
    cell = {} if fragment is None else {"run": {"cell": {"fragment": fragment}}}
    made = study(
        {"04-control": {2: [3.0], 5: [3.0]}, "03-arm": {2: [3.0], 5: [3.0]}},
        every={"config": base},
        **{"03_arm": {"config": config, **cell}},
    )
    control, row = report(made, evidence([])).rows
    return step_changes.step_changes(control, row)


def test_what_a_step_changes():
    """Its lines and what they imply, from the control's value to its own."""
    found = changes(FRAGMENT, GPT2_WIDTH=96, GPT2_BIAS=False, MLP_DIM=384)
    assert sorted(map(str, found.lines)) == ["GPT2_BIAS y → n", "GPT2_WIDTH 64 → 96"]
    assert [*map(str, found.implied)] == ["MLP_DIM 256 → 384"]
    assert found.recorded and found.own_training == ""
    old = changes(None, GPT2_WIDTH=96, MLP_DIM=384)
    assert not old.recorded and old.implied == () and len(old.lines) == 2


@pytest.mark.parametrize(
    "lines, values, mark",
    [
        (
            'CONFIG_GPT2_WIDTH=96\nCONFIG_LEARNING_RATE="1e-3"\n',
            {"GPT2_WIDTH": 96, "LEARNING_RATE": "1e-3"},
            "its rate was set for this arm (LEARNING_RATE)",
        ),
        (
            'CONFIG_GPT2_WIDTH=96\nCONFIG_ADAM_BETA2="0.9"\n',
            {"GPT2_WIDTH": 96, "ADAM_BETA2": "0.9"},
            "its training was set for this arm (ADAM_BETA2)",
        ),
        ('CONFIG_LEARNING_RATE="1e-3"\n', {"LEARNING_RATE": "1e-3"}, ""),
        ("CONFIG_GPT2_WIDTH=96\n", {"GPT2_WIDTH": 96, "LEARNING_RATE": "1e-3"}, ""),
        (
            'CONFIG_GPT2_WIDTH=96\nCONFIG_INIT_SALT="x"\n',
            {"GPT2_WIDTH": 96, "INIT_SALT": "x"},
            "",
        ),
    ],
    ids=["rate", "betas", "rate-alone", "implied", "salt"],
)
def test_a_rate_inside_a_step_is_marked(lines, values, mark):
    assert changes(lines, **values).own_training == mark


def test_the_symbols_of_training_are_those_of_its_menus():
    root = Path(__file__).resolve().parents[3]
    optimizer = (root / "gpt2/optim/Kconfig").read_text()
    training = (root / "gpt2/Kconfig").read_text().split('menu "Training"')[1]
    menus = optimizer + training.split("endmenu")[0]
    assert set(re.findall(r"^config (\w+)", menus, re.M)) == step_changes.TRAINING
