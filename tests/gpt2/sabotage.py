"""What the sabotage tests of make check share."""

import shutil

from gpt2.check.run import check_study
from gpt2.check.studies import from_defconfig
from kconf.overrides import Overrides
from tests.conftest import ROOT


def broken(verdicts):
    return {v.step: v.promise for v in verdicts if v.promise is not None}


def copy_of_the_study(tmp_path):
    """The defconfigs in a folder of their own, to be edited."""
    shutil.copytree(ROOT / "defconfigs", tmp_path / "defconfigs")
    return tmp_path / "defconfigs"


def verdicts_of(tree, *numbers):
    """The verdicts of those RATIO steps under whatever is patched."""
    study = from_defconfig(ROOT, "gpt2-ratio-ablation")
    found = []
    for number in numbers:
        found += check_study(tree, study.only(number), Overrides({}))
    return found
