"""Several broken steps at once: each is named, none hides another, the table stands."""

import os
import shutil
import subprocess
import sys

import pytest

from gpt2.check import prove as proofs
from gpt2.check import run
from gpt2.check.command_line import perform
from gpt2.check.run import check, merge_study
from gpt2.check.studies import Study, from_defconfig
from gpt2.check.table import print_table
from gpt2.check.two_processes import Pair, PartnerLost
from kconf.overrides import Overrides
from records import private
from records.doing import doing
from tests.conftest import ROOT
from tests.gpt2.check.alone import Alone
from tests.gpt2.sabotage import copy_of_the_study

RATIO = "gpt2-ratio-ablation"
ROOMS = ("gpt2", "kconf", "kernels", "matrix", "records", "scripts", "defconfigs")


def expects(root, step, old, new):
    """Another `# Expect:` in a step's fragment."""
    (path,) = (root / "defconfigs" / f"{RATIO}.d").glob(f"{step}-*.config")
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.fixture
def copy(tmp_path):
    """The program in a folder of its own, to be broken."""
    for room in ROOMS:
        shutil.copytree(
            ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("Kconfig", "Makefile", "Makefile.kconfig"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_command_names_each(copy):
    """Two claim what they do not have; one between them cannot be counted."""
    for step in ("02", "06"):
        expects(copy, step, "mlp_dim=", "mlp_dim=1")
    attention = copy / "gpt2/model/mixers/attention/attention.py"
    text = attention.read_text()
    counted = "queries = 0 if self.ra is None else width * min(self.ra.band, tokens)"
    assert text.count(counted) == 1
    broken = "queries = 0 if self.ra is None else {}['values']"
    attention.write_text(text.replace(counted, broken))
    done = subprocess.run(
        [sys.executable, "gpt2/train_ra_mla.py", "--dry-run"]
        + ["--ra-mla-ablation-step", "2,5,6,8"],
        cwd=copy,
        env={**os.environ, "OMP_NUM_THREADS": "1", "KCONFIG_CONFIG": "none"},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    rows = [(r.split()[0], r[-1]) for r in lines if r.startswith("  0")]
    steps = ["02-golden-ratio", "05-ra", "06-ra-golden-ratio", "08-mla"]
    assert rows == list(zip(steps, "✗✗✗✓")), done.stdout + done.stderr
    assert [line for line in lines if line.startswith("✗")] == [
        f"✗ {RATIO} 02-golden-ratio: expectations",
        f"✗ {RATIO} 05-ra: full-size model",
        f"✗ {RATIO} 06-ra-golden-ratio: full-size model",
    ]
    assert lines.count("    KeyError: 'values'") == 2
    assert lines[-1].startswith("check: 1 of 4 steps keep every promise")
    assert done.returncode == 1


@pytest.fixture
def quick(monkeypatch):
    """Counts and claims alone."""
    monkeypatch.setattr(proofs, "NETWORK", ())
    monkeypatch.setattr(proofs, "TRAINING", ())


def proven(tree, root, *numbers):
    """The verdicts of those steps of each study, RATIO once per entry of numbers."""
    studies = [from_defconfig(root, RATIO).only(n) for n in numbers]
    merged = [merge_study(tree, study, Overrides({})) for study in studies]
    with doing("checking") as activity:
        cases = run._prove_all(Alone(), merged, activity)
    return [[case.verdict for case in study] for study in cases]


def promises(verdicts):
    return [(v.step[:2], v.promise) for v in verdicts]


@pytest.mark.parametrize("wrong", [("02",), ("02", "05"), ("00", "08"), ("08",)])
def test_every_step_stands_where_it_was(tree, tmp_path, quick, wrong):
    root = copy_of_the_study(tmp_path).parent
    for step in wrong:
        expects(root, step, "mlp_dim=", "mlp_dim=1")
    found = proven(tree, root, "2,5,8", "0,2")
    broken = lambda step: (step, "expectations" if step in wrong else None)
    assert promises(found[0]) == [broken("02"), broken("05"), broken("08")]
    assert promises(found[1])[0] == broken("00")
    assert promises(found[1])[1] == broken("02")


@pytest.mark.parametrize("wrong", [("00",), ("01",), ("00", "01")])
def test_the_table_of_broken_twins(tree, tmp_path, quick, capsys, wrong):
    """01 trains the network of 00."""
    root = copy_of_the_study(tmp_path).parent
    for step in wrong:
        expects(root, step, "mlp_dim=", "mlp_dim=1")
    (found,) = proven(tree, root, "0,1,2")
    assert [s for s, promise in promises(found) if promise] == list(wrong)
    print_table(found)
    rows = [r for r in capsys.readouterr().out.splitlines() if r.startswith("  0")]
    assert [(r.split()[0], r[-1]) for r in rows] == [
        (v.step, "✗" if v.promise else "✓") for v in found
    ]
    counted = [v.step for v in found if v.parameters]
    assert ("00-baseline" in counted) and ("02-golden-ratio" in counted)


@pytest.mark.parametrize(
    "error",
    [KeyError, TypeError, ZeroDivisionError, NameError, ImportError, MemoryError],
)
@pytest.mark.parametrize("what", ["count", "memory_estimate", "meta_model"])
def test_counts_that_raise(tree, quick, monkeypatch, capsys, what, error):
    """Of one step among three."""
    plain = getattr(proofs, what)

    def raising(given, *rest):
        shape = getattr(getattr(given, "model", given), "settings", given)
        if getattr(shape, "model", shape).mlp.dim == 3840:
            raise error("nothing to count")
        return plain(given, *rest)

    monkeypatch.setattr(proofs, what, raising)
    (found,) = proven(tree, ROOT, "0,2,5")
    assert promises(found) == [("00", None), ("02", "full-size model"), ("05", None)]
    assert "nothing to count" in found[1].found and error.__name__ in found[1].found
    print_table(found)
    rows = [r for r in capsys.readouterr().out.splitlines() if r.startswith("  0")]
    assert len(rows) == 3 and "138,640,896" not in rows[1]
    assert "124,475,904" in rows[0] and "124,475,904" in rows[2]


def test_what_is_no_fault_says_where(tree, quick, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(proofs, "memory_estimate", stop)
    with pytest.raises(KeyboardInterrupt) as caught:
        proven(tree, ROOT, "2")
    notes = getattr(caught.value, "__notes__", [])
    assert notes == [f"at {RATIO} 02-golden-ratio: full-size model"]


def test_settings_that_are_refused_without_steps(tree):
    """A configuration that is no study, with a combination that has no meaning."""
    stages = (ROOT / "defconfigs" / "gpt2-124m",)
    symbols = {"GPT2_SIZE_CUSTOM": "y", "GPT2_HEADS": "7"}
    alone = Study("gpt2-124m", stages, stages, ())
    (case,) = merge_study(tree, alone, Overrides(symbols))
    assert (case.verdict.step, case.verdict.promise) == ("base", "strict load")
    assert "CONFIG_GPT2_HEADS=7" in case.verdict.found


def test_a_small_model_that_is_refused(tree):
    """Heads of 96 / 8 are none that the kernels asked for by name can serve."""
    symbols = {"ATTENTION_IMPL_TRITON": "y", "GPT2_SIZE_CUSTOM": "y"}
    symbols |= {"GPT2_WIDTH": "1152", "GPT2_HEADS": "12", "MLP_DIM": "4608"}
    study = from_defconfig(ROOT, RATIO).only("0")
    (case,) = merge_study(tree, study, Overrides(symbols))
    assert case.verdict.promise == "small model"
    assert "heads 12 wide" in case.verdict.found


def test_facts_that_cannot_be_counted(cell, monkeypatch, capsys):
    from gpt2.model.mixers.attention.multi_head import MultiHead

    def fail(self):
        raise KeyError("values")

    path, claimed = cell() / "config.py", []
    monkeypatch.setattr(private, "claim", lambda: claimed.append(path))
    assert perform(["--facts", str(path)], ROOT, 0.0) == 0
    assert len(claimed) == 1  # torch makes folders in /tmp when it is imported
    capsys.readouterr()
    monkeypatch.setattr(MultiHead, "cache_per_token", fail)
    with pytest.raises(KeyError) as caught:
        perform(["--facts", str(path)], ROOT, 0.0)
    assert capsys.readouterr().out == ""
    notes = [f"{path}: the model cannot be counted", "`make check` names the step"]
    assert caught.value.__notes__ == notes


class Dying(Pair):
    """A pair whose partner aborts once everything is proven."""

    def two_ranks(self, cases):
        self.partner.kill()
        self.partner.join()


def test_a_partner_that_dies_at_the_end(monkeypatch, capsys):
    """The table is printed; the command fails and says how the process ended."""
    monkeypatch.setenv("KCONFIG_CONFIG", str(ROOT / "no such file"))
    monkeypatch.setattr(run, "Pair", Dying)
    monkeypatch.setenv("CONFIG_LEARNING_RATE", "99")
    assert check(ROOT, "0", every=False, as_json=False, began=0.0) == 1
    said = capsys.readouterr()
    assert "\nwarning: CONFIG_LEARNING_RATE=99: CONFIG_OPTIMIZER_ADAMW is" in said.out
    assert "check: 1 of 1 step keeps every promise" in said.out
    assert f"{RATIO}\nCONFIG_MLP_DIM=0 is 3072 (4 E)\n" in said.out
    ended = "the second process ended by signal 9, SIGKILL, after its last proof"
    assert ended in said.err


def test_the_pair_that_loses_its_partner_names_the_step(tree):
    cases = merge_study(tree, from_defconfig(ROOT, RATIO).only("0,2"), Overrides({}))
    for case in cases:
        case.subject = None
    with pytest.raises(PartnerLost, match="SIGKILL, while it proved .* 00-baseline"):
        with Pair() as pair:
            pair.taken.value = 1  # as if the partner had taken the first
            pair.partner.kill()
            pair.partner.join()
            pair._send = lambda what, at: None
            pair.prove(cases, lambda index: None)
