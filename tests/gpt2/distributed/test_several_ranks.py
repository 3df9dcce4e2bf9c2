"""What several ranks train is what one process trains.

Two ranks with one micro-batch each add the same two fp32 numbers, in the same
order, that one process with two micro-batches adds: everything is equal to the
bit. Where the order of more than two summands differs, to fp32 rounding.
"""

import json

import pytest
import torch

from gpt2.training.cell import execute
from tests.gpt2.ranks import TRAIN_CELLS, finish, launch, rows

COMMON = {
    "EFFECTIVE_BATCH": "8",
    "GPT2_MAX_ITERS": "32",
    "GPT2_EVAL_INTERVAL": "16",
    "GPT2_EVAL_WINDOWS": "11",
    "CHECKPOINT_INTERVAL": "0",
    "LEARNING_RATE": "1e-3",
    "MIN_LEARNING_RATE": "1e-4",
}
PRUNED = {"PRUNING_START": "0.1", "PRUNING_END": "0.8", "PRUNING_FREQUENCY": "4"}
BF16 = {"DTYPE_BF16": "y", "PARAM_DTYPE_BF16": "y"}
ARMS = {
    "plain": {},
    "clipped": {"GRAD_CLIP": "0.05", "OPTIMIZER_SGD": "y", "LEARNING_RATE": "1e-1"},
    "mla-ra": {"MLA": "y", "RA": "y", "RA_LEARNED": "y", "RA_CT": "y"},
    "muon-magnitude": {"OPTIMIZER_MUON": "y", "PRUNING_MAGNITUDE": "y", **PRUNED},
    "spam-state": {"OPTIMIZER_ADAMWSPAM": "y", "PRUNING_STATE": "y", **PRUNED},
    "movement": {"PRUNING_MOVEMENT": "y", **PRUNED},
    "working-copy": {**BF16, "GRAD_CLIP": "0.05"},
}
# Newton-Schulz in bf16 makes of a rounding of the gradient one of the update.
ROUGH = "muon-magnitude"
# Of losses and norms near 5 in fp32, after 32 steps that began with one rounding.
ROUNDING = 5e-7


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Another number of threads adds in another order; ranks have one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(make_cell, corpus, tmp_path_factory):
    """directory = trained(arm, ranks, micro): that cell, trained with all others of
    its number of ranks when the first is asked for.
    """
    folder = tmp_path_factory.mktemp("several")
    started = set()

    def cell(arm, ranks, micro):
        return folder / f"{arm}-{ranks}-{micro}"

    def train(arm, ranks, micro):
        if (ranks, micro) not in started:
            started.add((ranks, micro))
            sizes = {"GPUS_PER_RUN": str(ranks), "BATCH_SIZE": str(micro)}
            for name, symbols in ARMS.items():
                make_cell(cell(name, ranks, micro), **{**COMMON, **symbols, **sizes})
            cells = [cell(name, ranks, micro) for name in ARMS]
            if ranks == 1:
                assert not any(execute(directory, corpus) for directory in cells)
            else:
                process = launch(ranks, TRAIN_CELLS, corpus, *cells)
                output = finish(process, 900)
                assert process.returncode == 0, output
        return cell(arm, ranks, micro)

    return train


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


def curve(directory):
    """Everything but times."""
    trained = [
        {
            k: row.get(k)
            for k in ("step", "loss", "lr", "grad_norm", "tokens", "sparsity")
        }
        for row in rows(directory, "train")
    ]
    return trained, [(r["step"], r["loss"]) for r in rows(directory, "eval")]


def distance(a, b):
    """The largest relative difference of a loss or norm, and the relative distance
    of the final weights (of their Euclidean norms).
    """
    pairs = [
        (p[key], q[key])
        for kind, keys in (("train", ("loss", "grad_norm")), ("eval", ("loss",)))
        for p, q in zip(rows(a, kind), rows(b, kind), strict=True)
        for key in keys
    ]
    mine, theirs = (
        torch.cat([w.flatten().double() for w in weights(d).values()]) for d in (a, b)
    )
    worst = max(abs(x / y - 1) for x, y in pairs)
    return worst, float((mine - theirs).norm() / theirs.norm())


def weights(directory):
    return torch.load(directory / "checkpoint" / "model.pt")["model"]


def pruned(directory):
    """How many weights are exactly 0."""
    return sum(int((w == 0).sum()) for w in weights(directory).values())


def require_close(arm, several, one, reordered):
    """Equal to fp32 rounding; for Muon, as near as another order of the sums takes
    one process.
    """
    worst, apart = distance(several, one)
    limits = ROUNDING, 2e-6
    if arm == ROUGH:
        limits = (4 * x for x in distance(reordered, one))
    at_most_worst, at_most_apart = limits
    assert worst <= at_most_worst and apart <= at_most_apart
    assert pruned(several) == pruned(one)


@pytest.mark.parametrize("arm", ARMS)
def test_two_ranks_are_one_process_to_the_bit(trained, arm):
    one, two = trained(arm, 1, 4), trained(arm, 2, 4)
    assert len(curve(one)[0]) == 32 and len(curve(one)[1]) == 3
    assert curve(two) == curve(one)
    assert summary(two)["model_sha256"] == summary(one)["model_sha256"]
    facts = [rows(directory, "facts")[0] for directory in (one, two)]
    assert [f["ranks"] for f in facts] == [1, 2]
    assert [f["accumulation"] for f in facts] == [2, 1]
    assert facts[0]["effective_batch"] == facts[1]["effective_batch"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_two_ranks_that_accumulate(trained, arm):
    several, one = trained(arm, 2, 2), trained(arm, 1, 2)
    assert rows(several, "facts")[0]["accumulation"] == 2
    require_close(arm, several, one, trained(arm, 1, 4))


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_four_ranks(trained, arm):
    several, one = trained(arm, 4, 2), trained(arm, 1, 2)
    require_close(arm, several, one, trained(arm, 1, 4))


TIMED = {"GPT2_MAX_TIME": "3", "GPT2_MAX_ITERS": "1000000", "TIMING_WARMUP_STEPS": "2"}
TIMED |= {"GPUS_PER_RUN": "2", "BATCH_SIZE": "4", "GPT2_EVAL_INTERVAL": "40"}
BUDGETS = {
    "time": {"BUDGET_TIME": "y", "GPT2_WARMUP_STEPS": "0"},
    "pruned": {"BUDGET_TIME": "y", "PRUNING_MAGNITUDE": "y", **PRUNED},
    "limit": {},
}


@pytest.fixture(scope="module")
def timed(make_cell, corpus, tmp_path_factory):
    """({budget: directory}, status, output) of cells that seconds end; rank 1's clock
    is a fast one.
    """
    folder = tmp_path_factory.mktemp("timed")
    cells = {
        name: make_cell(folder / name, **{**COMMON, **TIMED, **symbols})
        for name, symbols in BUDGETS.items()
    }
    process = launch(2, TRAIN_CELLS, "--fault", "clock", corpus, *cells.values())
    output = finish(process, 300)
    return cells, process.returncode, output


@pytest.mark.parametrize("budget", BUDGETS)
def test_seconds_end_all_ranks_at_one_step(timed, budget):
    """By rank 0's clock, which also sets the rate of every step on every rank."""
    cells, status, output = timed
    assert status == 0, output
    directory = cells[budget]
    found = summary(directory)
    assert found["stopped_by"] == "time" and 3.0 <= found["train_time"] < 6.0
    mine, theirs = (
        json.loads((directory / f"rates-{rank}.json").read_text()) for rank in (0, 1)
    )
    assert mine == theirs and len(mine) == found["step"] > 10
    assert [row["lr"] for row in rows(directory, "train")] == mine
    if budget == "time":
        assert mine == sorted(mine, reverse=True) and mine[0] > 0.9e-3
        assert mine[-1] < 1.2e-4, "the cosine ends with the seconds"
    if budget == "pruned":
        assert found["sparsity"]["covered"] == pytest.approx(0.5, abs=1e-4)
