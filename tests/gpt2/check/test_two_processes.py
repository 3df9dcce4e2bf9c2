"""The proof that takes two processes, and what becomes of it when one is lost."""

import os
from pathlib import Path

import pytest
import torch

from gpt2.check.proofs.ranks import joined, two_ranks
from gpt2.check.prove import Case
from gpt2.check.run import merge_study
from gpt2.check.studies import from_defconfig
from gpt2.check.subject import Broken
from gpt2.check.two_processes import Pair, PartnerLost, SPAWN
from gpt2.model.gpt import GPT
from kconf.overrides import Overrides
from tests.conftest import ROOT

PLAIN = GPT.forward, GPT.embed


def summed(self, tokens_BT, targets_BT, starts_BT):
    """The loss of a batch, not its mean."""
    return PLAIN[0](self, tokens_BT, targets_BT, starts_BT) * tokens_BT.numel()


def coupled(self, tokens_BT, positions):
    """Every sequence hears the batch's mean embedding."""
    x_BTE = PLAIN[1](self, tokens_BT, positions)
    return x_BTE - 0.5 * x_BTE.mean(dim=0, keepdim=True)


SABOTAGE = {"nothing": {}, "summed": {"forward": summed}, "coupled": {"embed": coupled}}


def rank(number: int, store: str, name: str, case: Case, told) -> None:
    """One of two processes; tells what it found broken, None when nothing, and which
    threads outlive the group.
    """
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    for attribute, broken in SABOTAGE[name].items():
        setattr(GPT, attribute, broken)
    found = None
    with joined(number, store):
        try:
            two_ranks(case.subject, number)
        except Broken as broken:
            found = str(broken)
    told.put((number, found, gloo_threads()))


def gloo_threads() -> list[str]:
    """This process's threads that move gradients."""
    names = [
        path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")
    ]
    return [name for name in names if "gloo" in name]


@pytest.fixture
def case(tree):
    study = from_defconfig(ROOT, "gpt2-ratio-ablation").only("7")
    return merge_study(tree, study, Overrides({}))[0]


@pytest.mark.parametrize("name", SABOTAGE)
def test_two_ranks(tmp_path, case, name):
    told = SPAWN.Queue()
    arguments = (str(tmp_path / "store"), name, case, told)
    ranks = [SPAWN.Process(target=rank, args=(n, *arguments)) for n in (0, 1)]
    for process in ranks:
        process.start()
    ends = [told.get(timeout=300) for _ in ranks]
    found = {number: broken for number, broken, _ in ends}
    for process in ranks:
        process.join()
        assert process.exitcode == 0
    # One that lets go of a gradient while Python ends aborts the process.
    assert [threads for _, _, threads in ends] == [[], []]
    assert found[1] is None  # rank 0 compares
    if name == "nothing":
        assert found[0] is None
    else:
        assert "on two ranks differs from that of one process" in found[0]


def test_a_lost_partner_is_an_error(case):
    with pytest.raises(
        PartnerLost, match="second process .* SIGKILL, before the first"
    ):
        with Pair() as pair:
            pair.partner.kill()
            pair.partner.join()
            pair.prove([case], lambda index: None)


def test_a_partner_lost_between_the_proofs(case):
    with pytest.raises(PartnerLost, match="SIGKILL, before the proofs of two ranks"):
        with Pair() as pair:
            (proven,) = pair.prove([case], lambda index: None)
            assert proven.sound
            pair.partner.kill()
            pair.partner.join()
            pair.two_ranks([proven])
