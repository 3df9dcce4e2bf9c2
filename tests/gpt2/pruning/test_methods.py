"""Every optimizer with every pruning method: what goes, what it costs, who may not."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.multiprocessing as mp

from gpt2 import optim, pruning
from gpt2.check import command_line
from gpt2.check.proofs.learning import optimizer_as_configured, repeated_batch, update
from gpt2.check.proofs.moments import moments
from gpt2.check.proofs.pruning import reaches_its_sparsity
from gpt2.check.proofs.saving import save_and_resume
from gpt2.check.subject import Subject
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.pruning import layers
from gpt2.settings import pruning_names as names
from gpt2.settings.run import run_settings
from kconf.bind import SettingsError
from kconf.overrides import Overrides
from kconf.syntax import ConfigError
from tests.conftest import ROOT, SMALL
from tests.gpt2.pruning.test_pruning import PRUNES, trained
from tests.oracles import optim as oracle

OPTIMIZERS = ("sgd", "adam", "adamw", "adamwadv", "muon", "adamwspam")
METHODS = ("magnitude", "movement", *(f"state:{name}" for name in names.CRITERIA))
QUICK = {k: v for k, v in PRUNES.items() if k != "PRUNING_MAGNITUDE"}


def symbols(optimizer, method, pattern="unstructured"):
    """What a person would set for that pair."""
    chosen = {f"OPTIMIZER_{optimizer.upper()}": "y", **QUICK}
    chosen |= {name: "y" for name in names.resolve(method).symbols}
    if pattern == "2:4":
        chosen["PATTERN_2_4"] = "y"
        del chosen["PRUNING_SPARSITY"]
    return chosen


def possible(optimizer, method):
    """State pruning needs both moments."""
    return optimizer not in ("sgd", "muon") or not method.startswith("state")


PAIRS = list(itertools.product(OPTIMIZERS, METHODS))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_keeps_the_promises(small, optimizer):
    """The proofs of make check: as configured, decay, moments, loss, resume."""
    settings = small(**{f"OPTIMIZER_{optimizer.upper()}": "y"})
    subject = Subject("optimizer", settings, settings, {})
    for proof in (optimizer_as_configured, update, moments, repeated_batch):
        proof(subject)
    save_and_resume(subject)


@pytest.mark.parametrize("optimizer, method", [p for p in PAIRS if possible(*p)])
def test_every_possible_pair_keeps_the_promises(small, optimizer, method):
    """The proofs of make check: schedule, ranking, zeros, training, resume."""
    settings = small(**symbols(optimizer, method))
    subject = Subject("pair", settings, settings, {})
    reaches_its_sparsity(subject)
    save_and_resume(subject)


@pytest.mark.parametrize("optimizer, method", [p for p in PAIRS if not possible(*p)])
def test_every_impossible_pair_is_refused_twice(tree, small, optimizer, method):
    """By Kconfig, with what is unmet, and by the settings, with the reason."""
    with pytest.raises(ConfigError, match="needs OPTIMIZER_HAS_MOMENTS"):
        small(**symbols(optimizer, method))
    values = tree.resolve([Overrides(SMALL | symbols("adamw", method))]).values
    other = tree.resolve([Overrides({f"OPTIMIZER_{optimizer.upper()}": "y"})]).values
    values |= {k: v for k, v in other.items() if k.startswith(("OPTIMIZER", "ADAM"))}
    values |= {k: v for k, v in other.items() if k.startswith(("SGD", "MUON"))}
    with pytest.raises(SettingsError, match=f"the optimizer {optimizer} does not keep"):
        run_settings(values)


TWO_OF_FOUR = [("adamw", m) for m in METHODS if m != "state:layer_adaptive"]
TWO_OF_FOUR += [("sgd", "movement"), ("muon", "magnitude"), ("adamwspam", "magnitude")]


@pytest.mark.parametrize("optimizer, method", TWO_OF_FOUR)
def test_two_of_four_keeps_the_promises(small, optimizer, method):
    settings = small(**symbols(optimizer, method, "2:4"))
    assert settings.pruning.sparsity is None and settings.pruning.final == 0.5
    subject = Subject("pair", settings, settings, {})
    reaches_its_sparsity(subject)
    save_and_resume(subject)


def prepared(settings, seed=1):
    model = GPT(settings.model)
    initialise(model, seed)
    optimizer = optim.build(model, settings.optim)
    pruner = pruning.build(model, optimizer, settings.pruning, settings.optim)
    return model, optimizer, pruner


def test_two_of_four_on_the_way_and_in_the_end(small):
    """The cubic of a half at every update, never three of a four, then two."""
    model, optimizer, pruner = prepared(small(**symbols("adamw", "magnitude", "2:4")))
    seen = set()
    for done in trained(model, optimizer, pruner, 40, 40):
        fours = [mask.view(-1, 4).sum(1) for mask in pruner.masks.values()]
        gone = torch.cat(fours)
        assert gone.max() <= 2 and gone.sum() == pruner.pruned
        p = min(max((done - 10) / 20, 0.0), 1.0)
        if done % 3 == 0 or done >= 30:
            wanted = 0.5 * (1 - (1 - p) ** 3) * pruner.covered
            assert abs(pruner.pruned - wanted) <= 0.5
        seen |= set(gone.tolist())
    assert seen == {0, 1, 2} and set(gone.tolist()) == {2}


def test_two_of_four_asks_for_widths_that_divide(small):
    odd = {"MLP_ATTN_GATE": "y", "MLP_ATTN_GATE_RANK": "6"}
    settings = small(**symbols("adamw", "magnitude", "2:4"), **odd)
    with pytest.raises(SettingsError, match="PATTERN_2_4=y: h.0.*has 6 inputs"):
        prepared(settings)


def test_two_of_four_has_one_sparsity(small):
    chosen = symbols("adamw", "magnitude", "2:4")
    with pytest.raises(ConfigError, match="PRUNING_SPARSITY"):
        small(**chosen, PRUNING_SPARSITY="0.7")
    with pytest.raises(ConfigError, match="PATTERN_UNSTRUCTURED"):
        small(**symbols("adamw", "state:layer_adaptive", "2:4"))
    settings = small(**symbols("adamw", "state:layer_adaptive")).pruning
    with pytest.raises(SettingsError, match="gives every block a sparsity of its own"):
        replace(settings, pattern="2:4")


# -- gradients, movement, memory ----------------------------------------------


def test_gradients_of_pruned_weights_have_no_part(small):
    """They are zero before the clip, so the norm is the pruned network's own."""
    model, optimizer, pruner = prepared(small(**PRUNES))
    list(trained(model, optimizer, pruner, 25, 40))
    tokens = torch.randint(0, 257, (2, 17), generator=torch.manual_seed(99))
    optimizer.zero_grad()
    model(tokens[:, :-1], tokens[:, 1:]).backward()
    full = {n: p.grad.clone() for n, p in model.named_parameters()}
    pruner.before_step()
    for name, parameter in model.named_parameters():
        live = ~pruner.masks.get(name, torch.zeros_like(parameter, dtype=torch.bool))
        assert torch.equal(parameter.grad, full[name] * live), name
    assert any(full[name][mask].any() for name, mask in pruner.masks.items())
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf)
    own = math.sqrt(sum((p.grad.double() ** 2).sum() for p in model.parameters()))
    assert norm.item() == pytest.approx(own, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamwspam", "muon"])
def test_movement_sums_minus_w_g_of_every_step(small, optimizer):
    """S = −Σ w · g over all steps, updates or not, with w before the step."""
    model, stepper, pruner = prepared(small(**symbols(optimizer, "movement")))
    sums = {n: torch.zeros_like(p).double() for n, p in pruner.weights.items()}
    plain = pruner.before_step

    def watched():
        for name, weight in pruner.weights.items():
            live = ~pruner.masks[name]
            sums[name] -= weight.detach().double() * weight.grad.double() * live
        plain()

    pruner.before_step = watched
    list(trained(model, stepper, pruner, 35, 40))
    assert pruner.sparsity() == pytest.approx(0.6, abs=1e-4)
    for name, score in pruner.scores.items():
        assert score.dtype == torch.float32
        assert torch.allclose(score.double(), sums[name], rtol=1e-4, atol=1e-7), name


def test_movement_scores_travel_with_the_masks(small):
    _, _, pruner = made = prepared(small(**symbols("adamw", "movement")))
    list(trained(*made, 20, 40))
    _, _, other = prepared(small(**symbols("adamw", "movement")), seed=2)
    other.load(pruner.state())
    for name, score in pruner.scores.items():
        assert score.any() and torch.equal(other.scores[name], score)


def kept(made):
    """Bytes of every tensor that a pruner reaches, the model's and optimizer's
    own left out.
    """
    model, optimizer, pruner = made
    known = {p.data_ptr() for p in model.parameters()}
    for state in optimizer.state.values():
        known |= {v.data_ptr() for v in state.values() if torch.is_tensor(v)}
    found, seen, todo = 0, set(), [vars(pruner)]
    while todo:
        item = todo.pop()
        if id(item) in seen or item is optimizer:
            continue
        seen.add(id(item))
        if torch.is_tensor(item):
            if item.data_ptr() not in known:
                found += item.untyped_storage().nbytes()
        elif isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, (list, tuple, set)):
            todo += item
        elif hasattr(item, "__dict__") and type(item).__module__.startswith("gpt2"):
            todo.append(vars(item))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_state_pruning_keeps_a_bool_mask_and_nothing_else(small, method):
    """One byte per covered weight; external movement four more."""
    made = prepared(small(**symbols("adamw", method)))
    state = {id(p) for p in made[1].state.values()}
    list(trained(*made, 30, 40))
    bytes_each = 5 if method == "movement" else 1
    assert kept(made) == bytes_each * made[2].covered
    keys = {key for state in made[1].state.values() for key in state}
    assert keys == {"step", "exp_avg", "exp_avg_sq"} and not state


# -- layer_adaptive -----------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.05, 0.5, 0.7, 0.75, 0.8, 0.9, 0.97, 0.999])
@pytest.mark.parametrize("sizes", [[100] * 12, [1000], [70, 900, 30], [10, 10_000]])
def test_block_sparsities(sizes, sparsity):
    found = layers.sparsities(sizes, sparsity)
    assert found == pytest.approx(oracle.block_sparsities(sizes, sparsity), rel=1e-9)
    total = sum(share * size for share, size in zip(found, sizes))
    assert total == pytest.approx(sparsity * sum(sizes)) and max(found) <= 1
    if sparsity == 0.5 and len(sizes) > 1 and len(set(sizes)) == 1:
        assert (found[0], found[-1]) == pytest.approx((0.35, 0.65))


@pytest.mark.parametrize("sizes", [[37] * 7, [5, 901, 33], [3, 3, 3, 4000]])
def test_block_shares_are_exact_and_never_fall(sizes):
    pruned = [0] * len(sizes)
    for total in range(0, sum(sizes) + 1):
        found = layers.shares(sizes, pruned, total)
        exact = layers.sparsities(sizes, total / sum(sizes))
        assert sum(found) == total
        for now, before, size, share in zip(found, pruned, sizes, exact):
            assert before <= now <= size and abs(now - share * size) <= 1 + 1e-9
        pruned = found


def test_later_blocks_lose_more(small):
    """0.7 and 1.3 times the sparsity in two blocks, exact in total."""
    made = prepared(small(**symbols("adamw", "state:layer_adaptive")))
    list(trained(*made, 40, 40))
    pruner = made[2]
    zeros = {"0": 0, "1": 0}
    for name, mask in pruner.masks.items():
        zeros[name.split(".")[1]] += int(mask.sum())
    half = pruner.covered / 2
    assert [z / half for z in zeros.values()] == pytest.approx([0.42, 0.78], abs=1e-3)
    assert sum(zeros.values()) == pruner.pruned == round(0.6 * pruner.covered)


# -- names --------------------------------------------------------------------


def test_names_and_their_notes():
    assert names.resolve("movement") == names.Resolved(("PRUNING_MOVEMENT",))
    assert names.resolve("state").symbols == ("PRUNING_STATE",)
    found = names.resolve("state:variance")
    assert found.symbols == ("PRUNING_STATE", "CRITERION_VARIANCE")
    wanted = ["hybrid", "magnitude", "magnitude", "gradient_magnitude"]
    wanted += ["layer_adaptive", "movement", "coherence", "variance"]
    for i, criterion in enumerate(wanted):
        symbols = names.resolve(f"bitter{i}").symbols
        assert symbols == ("PRUNING_STATE", f"CRITERION_{criterion.upper()}")
    noted = [i for i in range(10) if names.resolve(f"bitter{i}").note]
    assert noted == [2, 5, 8, 9]
    assert names.resolve("bitter2").note.startswith("bitter2 is pruned as state:mag")
    for unknown in ("bitter10", "state:best", "variance", ""):
        with pytest.raises(ValueError, match="is none of none, magnitude"):
            names.resolve(unknown)


def test_the_entry_point_takes_names(capsys):
    options = command_line.parse(["--dry-run", "--pruning", "bitter8"])
    assert command_line.overrides(options) == {
        "CONFIG_PRUNING_STATE": "y",
        "CONFIG_CRITERION_GRADIENT_MAGNITUDE": "y",
    }
    assert "note: bitter8 is pruned as" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--pruning 'best' is none of"):
        command_line.overrides(command_line.parse(["--dry-run", "--pruning", "best"]))


# -- ranks --------------------------------------------------------------------

RANKS = 4


def one_rank(rank, folder):
    """Train on gradients averaged over the ranks; leave the masks in files."""
    from kconf.strict import Tree

    torch.set_num_threads(1)
    where = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", where, rank=rank, world_size=RANKS)
    tree = Tree(ROOT)
    for method in ("movement", "state:coherence"):
        chosen = Overrides(SMALL | symbols("adamw", method))
        model, optimizer, pruner = prepared(run_settings(tree.resolve([chosen]).values))
        for step in range(14):
            stream = torch.manual_seed(100 * step + rank)
            tokens = torch.randint(0, 257, (2, 17), generator=stream)
            optimizer.zero_grad()
            model(tokens[:, :-1], tokens[:, 1:]).backward()
            for parameter in model.parameters():
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= RANKS
            pruner.before_step()
            optimizer.step()
            pruner.after_step(step + 1, (step + 1) / 14)
        torch.save([pruner.masks, model.state_dict()], f"{folder}/{method}-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_four_ranks_have_the_same_masks(tmp_path):
    """Each rank decides by itself, on averaged gradients, and decides alike."""
    mp.spawn(one_rank, (str(tmp_path),), nprocs=RANKS)
    for method in ("movement", "state:coherence"):
        paths = [tmp_path / f"{method}-{rank}.pt" for rank in range(RANKS)]
        (masks, _), *others = [torch.load(path) for path in paths]
        assert all(mask.any() for mask in masks.values())
        for found, weights in others:
            for name, mask in masks.items():
                assert torch.equal(found[name], mask)
                assert (weights[name][mask] == 0).all()
