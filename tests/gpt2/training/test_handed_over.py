"""What reaches places whose effect no small CPU run shows: each is watched."""

from dataclasses import replace

import pytest
import torch

from gpt2 import optim
from gpt2.data.loading import batch
from gpt2.data.loading import corpus as module_corpus
from gpt2.data.loading.corpus import Corpus
from gpt2.distributed.ranks import Ranks
from gpt2.model.gpt import GPT
from gpt2.training import cell as module
from gpt2.training import device, update
from gpt2.training.cell import execute
from records import atomic
from records.layout import read_record
from tests.gpt2.ranks import rows

SHORT = {"GPT2_MAX_ITERS": "1", "CHECKPOINT_INTERVAL": "0"}


@pytest.mark.parametrize("dtype, half", [("FP32", False), ("BF16", True)])
def test_the_device_of_a_rank_and_what_attends_in_its_type(
    cell, corpus, monkeypatch, dtype, half
):
    """A process takes the GPU of its number on its host, not of its number in all."""
    configured, resolved, drawing = [], [], []
    plain, seed_of = module.resolve_attention, module.dropout_seed

    def seeded(seed, rank):
        drawing.append(rank)
        return seed_of(seed, rank)

    monkeypatch.setattr(module, "dropout_seed", seeded)

    def resolve(settings, kind, half):
        resolved.append((kind, half))
        return plain(settings, kind, half)

    monkeypatch.setattr(module, "resolve_attention", resolve)
    monkeypatch.setattr(device, "configure", lambda *given: configured.append(given))
    directory = cell(**SHORT, **{f"DTYPE_{dtype}": "y", "CPU_THREADS": "1"})
    assert execute(directory, corpus, Ranks(local_rank=3)) == 0
    [(system, kind, number)] = configured
    assert (system.dtype, kind, number) == (dtype.lower(), "cpu", 3)
    assert resolved == [("cpu", half)]
    assert drawing == [0], "masks go by the number in all, not on the host"


def test_an_automatic_micro_batch_is_what_the_device_holds(cell, corpus, monkeypatch):
    """By the estimate for this run's settings and the whole memory of its device."""
    plain, asked = device.describe, []

    def small(kind):
        return replace(plain(kind), total_memory=1000)

    def estimate(settings, micro):
        asked.append(settings.model.width)
        return 400 * micro

    monkeypatch.setattr(device, "describe", small)
    monkeypatch.setattr(module, "memory_estimate", estimate)
    directory = cell(BATCH_SIZE="0", EFFECTIVE_BATCH="6", **SHORT)
    assert execute(directory, corpus) == 0
    [facts] = rows(directory, "facts")
    assert (facts["micro_batch"], facts["accumulation"]) == (2, 3)
    assert set(asked) == {32}


@pytest.mark.parametrize("accumulation, ranks", [(1, 1), (3, 1), (1, 2), (3, 2)])
def test_one_pass_knows_how_many_micro_batches_a_step_has(
    cell, corpus, monkeypatch, accumulation, ranks
):
    """In all ranks: it reads bf16 gradients themselves where nothing is added up."""
    built, plain = [], update.build

    def build(*given):
        built.append(plain(*given))
        return built[-1]

    sizes = batch.Batch(2, accumulation, ranks)
    monkeypatch.setattr(batch, "resolve", lambda *given: sizes)
    monkeypatch.setattr(update, "build", build)
    symbols = {"UPDATE_ONE_PASS": "y", "DTYPE_BF16": "y", "PARAM_DTYPE_BF16": "y"}
    assert execute(cell(**SHORT, **symbols), corpus) == 0
    assert [each.direct for each in built] == [accumulation * ranks == 1]


@pytest.mark.parametrize("timeout, seconds", [("7", 7), ("0", None)])
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_how_batches_are_made_ahead(small, corpus, monkeypatch, timeout, seconds, kind):
    """From the first micro-batch on, so many ahead, pinned for a GPU."""
    given = []

    class Asked(Exception):
        """Enough is known."""

    def prefetcher(fetch, *arguments):
        given.append(arguments)
        raise Asked

    monkeypatch.setattr(module_corpus, "Prefetcher", prefetcher)
    settings = small(DATA_PREFETCH="5", DATA_TIMEOUT=timeout)
    sizes = batch.Batch(2, 3, 1)
    with pytest.raises(Asked):
        next(Corpus(settings, corpus).batches(sizes, kind, 4, 9))
    assert given == [(12, 5, kind == "cuda", seconds)]


@pytest.mark.parametrize("more, status", [(0, 0), (1, 1)])
def test_a_plan_names_its_threads(cell, corpus, capsys, more, status):
    directory = cell(**SHORT)
    record = read_record(directory / "run.json")
    threads = torch.get_num_threads() + more
    record["cell"]["identity"] = {"threads": threads}
    atomic.write_json(directory / "run.json", record)
    assert execute(directory, corpus) == status
    said = f"planned for threads {threads}" in capsys.readouterr().err
    assert said == bool(more)


LEFT = {
    ("y", "n"): ["model.pt"],
    ("y", "y"): ["model.pt", "step-000000002.pt", "step-000000003.pt"],
    ("n", "y"): ["step-000000002.pt", "step-000000003.pt"],
}


@pytest.mark.parametrize("save, keep", LEFT)
def test_what_a_finished_cell_leaves(cell, corpus, save, keep):
    symbols = {"GPT2_MAX_ITERS": "3", "CHECKPOINT_INTERVAL": "1"}
    directory = cell(**symbols, SAVE_MODEL=save, KEEP_CHECKPOINTS=keep)
    assert execute(directory, corpus) == 0
    found = sorted(path.name for path in (directory / "checkpoint").iterdir())
    assert found == LEFT[save, keep]


def test_our_kernels_do_not_decode_while_dropping(small):
    model = GPT(small(GPT2_DROPOUT="0.1").model, decoder="triton")
    with pytest.raises(ValueError, match=r"without dropout: call model\.eval"):
        model.decode(torch.tensor([[1]]))


def test_adamw_in_one_pass_is_plain_adamw(small):
    """It neither clips spikes nor resets, however long it runs."""
    settings = small(UPDATE_ONE_PASS="y", ADAM_EPS="1e-6", WEIGHT_DECAY="0.3").optim
    optimizer = optim.build(GPT(small().model), settings)
    plain = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-6}
    plain |= {"theta": 0.0, "interval": 0, "warmup": 0, "step": 0}
    for group, decay in zip(optimizer.param_groups, (0.3, 0.0), strict=True):
        found = {key: group[key] for key in (*plain, "weight_decay")}
        assert found == {**plain, "weight_decay": decay}
