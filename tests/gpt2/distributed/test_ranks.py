"""Who a rank is, what it reads, and what the ranks must have in common."""

import hashlib

import numpy as np
import pytest
import torch
import torch.distributed as dist

from gpt2.data.loading.batch import Batch
from gpt2.data.loading.corpus import Corpus
from gpt2.distributed.checksums import checksum, require_same
from gpt2.distributed.distribution import RanksDiffer
from gpt2.distributed.ranks import (
    ALONE,
    Ranks,
    RanksError,
    dropout_seed,
    from_environment,
    interface,
)
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.training import device
from kconf.bind import SettingsError

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
}


def test_who_torchrun_says_it_is():
    ranks = from_environment(TORCHRUN)
    assert (ranks.rank, ranks.local_rank, ranks.world) == (5, 1, 8)
    assert not ranks.main and not ranks.alone


def test_without_torchrun_a_process_is_alone():
    assert from_environment({"RANK": "3", "WORLD_SIZE": "4"}) == ALONE
    assert ALONE.main and ALONE.alone


def test_half_an_environment_is_an_error():
    for name in ("RANK", "MASTER_PORT"):
        with pytest.raises(RanksError, match=f"lacks {name}"):
            from_environment({**TORCHRUN, name: ""})


def test_ranks_of_one_host_meet_on_its_loopback():
    assert interface(TORCHRUN) == {}
    one = {**TORCHRUN, "WORLD_SIZE": "4"}
    both = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    assert interface(one) == both
    assert interface({**one, "GLOO_SOCKET_IFNAME": "eth0"}) == {
        "NCCL_SOCKET_IFNAME": "lo"
    }


def test_alone_nothing_changes():
    tensor = torch.ones(3)
    assert ALONE.gather("x") == ["x"] and ALONE.broadcast(0.25) == 0.25
    assert ALONE.maximum(7) == 7 and ALONE.sum_(tensor) is tensor
    assert torch.equal(tensor, torch.ones(3))


def test_the_first_ranks_number_is_handed_on_whole(monkeypatch):
    """Seconds of a long run: 32 bits round them to milliseconds."""
    monkeypatch.setattr(dist, "broadcast", lambda tensor, rank: None)
    seconds = 123_456.000_123
    assert Ranks(rank=0, world=2).broadcast(seconds) == seconds


def test_the_number_of_processes_is_the_configured_one():
    Ranks(1, 1, 4).require(4)
    for ranks, wanted in ((ALONE, 2), (Ranks(0, 0, 4), 1)):
        with pytest.raises(SettingsError, match="GPUS_PER_RUN.*started as"):
            ranks.require(wanted)


def test_dropout_differs_by_rank_and_seed():
    seeds = [dropout_seed(seed, rank) for seed in (1, 2) for rank in range(8)]
    assert len(set(seeds)) == 16 and dropout_seed(7, 0) == 7
    digest = hashlib.sha256(b"dropout:7:3").digest()
    assert dropout_seed(7, 3) == int.from_bytes(digest[:8], "little") & (2**63 - 1)
    for seed in seeds:
        torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("micro", [1, 2])
def test_the_same_tokens_in_the_same_order(small, corpus, ranks, micro):
    """One step's micro-batches, in turn over the ranks, are what one process reads."""
    packed = Corpus(small(), corpus)

    def digest(tensors):
        return hashlib.sha256(torch.cat(tensors).numpy().tobytes()).hexdigest()

    alone = packed.batches(Batch(8, 1, 1), "cpu", 3, 6)
    sizes = Batch(micro, 8 // ranks // micro, ranks)
    shared = zip(*(packed.batches(sizes, "cpu", 3, 6, r) for r in range(ranks)))
    for ((tokens, targets, _),), step in zip(alone, shared, strict=True):
        turns = [cut for cuts in zip(*step, strict=True) for cut in cuts]
        assert digest([cut[0] for cut in turns]) == digest([tokens])
        assert digest([cut[1] for cut in turns]) == digest([targets])


@pytest.mark.parametrize(
    "symbols, cause",
    [
        ({"EFFECTIVE_BATCH": "0"}, "set CONFIG_EFFECTIVE_BATCH"),
        ({"EFFECTIVE_BATCH": "6", "BATCH_SIZE": "0"}, "does not divide among .*=4"),
        ({"EFFECTIVE_BATCH": "24", "BATCH_SIZE": "4"}, "accumulation auto x GPUs 4"),
    ],
)
def test_a_batch_that_does_not_divide(small, symbols, cause):
    with pytest.raises(SettingsError, match=cause):
        small(GPUS_PER_RUN="4", **symbols)


def test_a_rank_without_a_gpu(small, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(device.DeviceError, match="sees 2 GPUs"):
        device.configure(small().system, "cuda", 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 4, 5), ()])
def test_any_changed_element_changes_the_checksum(shape, dtype):
    stream = torch.Generator().manual_seed(1)
    tensor = torch.randn(shape, generator=stream).to(dtype)
    before, same = checksum(tensor), checksum(tensor.clone())
    assert torch.equal(before, same)
    for index in np.ndindex(*shape):
        other = tensor.clone()
        other[index] = ~other[index] if dtype == torch.bool else -other[index]
        assert checksum(other) != before


def test_exchanged_elements_change_the_checksum():
    tensor = torch.randn(6, 6, generator=torch.Generator().manual_seed(2))
    for a, b in (((0, 0), (0, 1)), ((0, 0), (1, 0)), ((2, 3), (3, 2))):
        other = tensor.clone()
        other[a], other[b] = tensor[b], tensor[a]
        assert checksum(other) != checksum(tensor)


def test_the_first_tensor_that_differs_is_named(small, monkeypatch):
    """By all ranks alike, whichever of them they are."""
    model = GPT(small().model)
    initialise(model, 1)
    ours, tensors = [], dict(model.named_parameters())
    monkeypatch.setattr(Ranks, "gather", lambda self, sums: ours.append(sums) or [sums])
    require_same(Ranks(0, 0, 3), tensors, 40)
    with torch.no_grad():
        model.h[1].norm1.weight[3] += 1e-7
    theirs = [ours[0], ours[0]]
    monkeypatch.setattr(Ranks, "gather", lambda self, sums: [*theirs, sums])
    with pytest.raises(RanksDiffer, match=r"^h.1.norm1.weight of rank 2 .* step 40"):
        require_same(Ranks(2, 2, 3), tensors, 40)
