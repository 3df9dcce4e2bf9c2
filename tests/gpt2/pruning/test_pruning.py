"""The schedule is the formula, zeros stay zeros, runs and checkpoints carry them."""

import math
import signal

import pytest
import torch

from gpt2 import optim, pruning
from gpt2.distributed.ddp import DataParallel
from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.pruning import Pruner, schedule
from gpt2.training import checkpoint
from gpt2.training.cell import execute
from kconf.bind import SettingsError
from tests.gpt2.training.test_cell import curve, rows, start, summary, wait_for_step

# -- schedule -----------------------------------------------------------------


def test_the_schedule():
    """s_f (1 − (1 − p)³) with p linear between start and end."""
    spent = [0.0, 0.1, 0.2625, 0.425, 0.75, 1.0]
    p = [schedule.progress(0.1, 0.75, x) for x in spent]
    assert p == pytest.approx([0, 0, 0.25, 0.5, 1, 1])
    found = [schedule.cubic(0.5, x) for x in p]
    assert found == pytest.approx([0, 0, 0.5 * 37 / 64, 0.5 * 7 / 8, 0.5, 0.5])
    assert schedule.cubic(0.3, 1.0) == 0.3 and schedule.cubic(0.3, 0.0) == 0.0


PRUNES = {
    "PRUNING_MAGNITUDE": "y",
    "PRUNING_SPARSITY": "0.6",
    "PRUNING_START": "0.25",
    "PRUNING_END": "0.75",
    "PRUNING_FREQUENCY": "3",
}
SPAM = {
    "OPTIMIZER_ADAMWSPAM": "y",
    "ADAM_BETA2": "0.999",
    "SPAM_THETA": "50",
    "SPAM_INTERVAL": "60",
    "SPAM_WARMUP": "20",
}


def prepared(settings, seed=1):
    model = GPT(settings.model)
    initialise(model, seed)
    optimizer = optim.build(model, settings.optim)
    pruner = pruning.build(model, optimizer, settings.pruning, settings.optim)
    return model, optimizer, pruner


def trained(model, optimizer, pruner, steps, total, first=0):
    """Steps as the trainer takes them; yields the number of completed ones."""
    for step in range(first, steps):
        tokens = torch.randint(0, 257, (2, 17), generator=torch.manual_seed(step))
        optimizer.zero_grad()
        model(tokens[:, :-1], tokens[:, 1:]).backward()
        pruner.before_step()
        optimizer.step()
        pruner.after_step(step + 1, (step + 1) / total)
        yield step + 1


def test_updates_follow_the_schedule_to_one_weight(small):
    model, optimizer, pruner = prepared(small(**PRUNES))
    weights = [p for n, p in model.named_parameters() if n[:2] == "h." and p.dim() > 1]
    total = sum(p.numel() for p in weights)
    last = 0.0
    for done in trained(model, optimizer, pruner, 40, 40):
        zeros = sum(int((p == 0).sum()) for p in weights)
        if done in (12, 15, 18, 21, 24, 27):
            p = (done - 10) / 20
            last = 0.6 - 0.6 * (1 - p) ** 3
        elif done >= 30:
            last = 0.6
        assert abs(zeros - last * total) <= 0.5, done
        assert pruner.sparsity() == zeros / total


def test_the_end_is_made_up_for_between_updates(small):
    """An end that no multiple of the frequency hits is an update by itself."""
    symbols = {**PRUNES, "PRUNING_FREQUENCY": "50"}
    model, optimizer, pruner = prepared(small(**symbols))
    found = [
        (done, pruner.sparsity())
        for done in trained(model, optimizer, pruner, 24, 30)
        if done > 20
    ]
    assert [s for _, s in found] == pytest.approx([0.0, 0.0, 0.6, 0.6], abs=1e-4)


def test_no_update_within_n_steps_of_a_reset(small):
    """The optimizer's own moments say when; the last update is made up for."""
    symbols = {**SPAM, "SPAM_INTERVAL": "12", "SPAM_WARMUP": "5"}
    frequent = {**PRUNES, "PRUNING_FREQUENCY": "1", "PRUNING_START": "0.0"}
    settings = small(**symbols, **frequent, GPT2_MAX_ITERS="36")
    model, optimizer, pruner = prepared(settings)
    last, resets, updates = 0.0, [], []
    watched = next(iter(pruner.weights.values()))
    before = 0.0
    for done in trained(model, optimizer, pruner, 36, 36):
        v = optimizer.state[watched]["exp_avg_sq"].max().item()
        if v < 0.9 * before:
            resets.append(done)
        before = v
        if pruner.sparsity() > last:
            updates.append(done)
            last = pruner.sparsity()
    assert resets == [13, 25]
    assert updates == [*range(1, 13), *range(18, 25), 30]
    assert last == pytest.approx(0.6, abs=1e-4)


def test_the_whole_network_is_ranked_together(small):
    """The first masks are a plain sort of |w| over all blocks' matrices."""
    model, _, pruner = prepared(small(**PRUNES, MLA="y"))
    names = [n for n, p in model.named_parameters() if n[:2] == "h." and p.dim() == 2]
    assert list(pruner.masks) == names and len(names) == 2 * 7
    weights = [dict(model.named_parameters())[n].detach().clone() for n in names]
    pruner.after_step(30, 0.75)
    flat = torch.cat([w.flatten() for w in weights]).tolist()
    count = round(0.6 * len(flat))
    ranking = sorted((abs(w), i) for i, w in enumerate(flat))
    wanted = {i for _, i in ranking[:count]}
    found = torch.cat([mask.flatten() for mask in pruner.masks.values()])
    assert set(found.nonzero().flatten().tolist()) == wanted
    shares = [mask.float().mean().item() for mask in pruner.masks.values()]
    assert max(shares) - min(shares) > 0.1, "every matrix has the same sparsity"
    for w, p in zip(weights, pruner.weights.values()):
        live = p != 0
        assert torch.equal(p[live], w[live])


@pytest.mark.parametrize("spam", [{}, SPAM, {**SPAM, "SPAM_INTERVAL": "24"}])
def test_pruned_weights_and_their_state_stay_zero(small, spam):
    model, optimizer, pruner = prepared(small(**PRUNES, **spam))
    outside = {
        n: p.detach().clone()
        for n, p in model.named_parameters()
        if not (n.startswith("h.") and p.dim() == 2)
    }
    before = {n: torch.zeros_like(m) for n, m in pruner.masks.items()}
    for _ in trained(model, optimizer, pruner, 60, 60):
        for name, weight in pruner.weights.items():
            mask = pruner.masks[name]
            assert (mask | ~before[name]).all(), "a pruned weight came back"
            before[name] = mask.clone()
            assert (weight[mask] == 0).all() and weight[~mask].all()
            moments = optimizer.state[weight]
            for key in ("exp_avg", "exp_avg_sq"):
                assert (moments[key][mask] == 0).all()
                assert moments[key][~mask].all()
    assert pruner.sparsity() == pytest.approx(0.6, abs=1e-4)
    for name, parameter in model.named_parameters():
        if name in outside:
            assert not torch.equal(parameter, outside[name])
            moments = optimizer.state[parameter]
            assert moments["exp_avg"].any() and moments["exp_avg_sq"].any()


def test_no_pruning_is_none(small):
    settings = small()
    assert settings.pruning.kind == "none" and settings.pruning.sparsity is None
    assert prepared(settings)[2] is None


@pytest.mark.parametrize(
    "symbols, why",
    [
        ({"PRUNING_START": "0.75"}, 'START="0.75": is not below CONFIG_PRUNING_END=0.'),
        ({"PRUNING_SPARSITY": "1.0"}, "SPARSITY.*out of range"),
        ({"PRUNING_SPARSITY": "0"}, "SPARSITY.*out of range"),
        ({"PRUNING_START": "-0.1"}, "START.*out of range"),
        ({"PRUNING_END": "1.01"}, "END.*out of range"),
        (
            {**SPAM, "GPT2_MAX_ITERS": "80", "PRUNING_END": "0.8"},
            'END="0.8": is never reached: from step 64',
        ),
    ],
)
def test_settings_that_are_refused(small, symbols, why):
    with pytest.raises(SettingsError, match=why):
        small(**{**PRUNES, **symbols})


def test_an_end_that_can_still_be_made_up_for(small):
    """One step longer than what is refused above, or a plain optimizer."""
    end = {**PRUNES, "PRUNING_END": "0.8"}
    small(**end, **SPAM, GPT2_MAX_ITERS="81")
    small(**end, GPT2_MAX_ITERS="80")
    small(**{**end, "PRUNING_END": "0.75"}, **SPAM, GPT2_MAX_ITERS="80")


# -- checkpoints and runs -----------------------------------------------------


def test_a_checkpoint_holds_bool_masks_and_zeros(small, tmp_path):
    settings = small(**PRUNES)
    model, optimizer, pruner = prepared(settings)
    list(trained(model, optimizer, pruner, 21, 40))
    progress = checkpoint.Progress(step=21)
    shared = DataParallel(model)
    path = checkpoint.save(tmp_path, "id", progress, shared, optimizer, pruner)
    saved = torch.load(path, weights_only=True)
    assert saved["pruning"]["scores"] == {}
    assert list(saved["pruning"]["masks"]) == list(pruner.masks)
    for name, mask in saved["pruning"]["masks"].items():
        assert mask.dtype == torch.bool and torch.equal(mask, pruner.masks[name])
        assert (saved["model"][name][mask] == 0).all()
    other = prepared(settings, seed=2)
    checkpoint.resume(tmp_path, "id", DataParallel(other[0]), *other[1:])
    assert other[2].pruned == pruner.pruned > 0
    for made in ((model, optimizer, pruner), other):
        list(trained(*made, 35, 40, first=21))
    assert pruner.sparsity() == pytest.approx(0.6, abs=1e-4)
    for (name, p), q in zip(model.named_parameters(), other[0].parameters()):
        assert torch.equal(p, q), name


def test_masks_of_another_model_are_refused(small):
    _, _, pruner = prepared(small(**PRUNES))
    masks = dict(pruner.masks)
    masks["h.0.mlp.inner.weight"] = masks["h.0.mlp.inner.weight"].T
    del masks["h.1.mlp.inner.weight"]
    with pytest.raises(ValueError, match="inner.weight', 'h.1.mlp.inner.weight"):
        pruner.load({"masks": masks, "scores": {}})
    with pytest.raises(ValueError, match="scores that are missing, unknown"):
        pruner.load({"masks": pruner.masks, "scores": masks})


def weights_of(directory):
    found = torch.load(directory / "checkpoint" / "model.pt", weights_only=True)
    matrices = {
        n: w for n, w in found["model"].items() if n[:2] == "h." and w.dim() == 2
    }
    zeros = sum(int((w == 0).sum()) for w in matrices.values())
    total = sum(w.numel() for w in matrices.values())
    return zeros, total, sum(w.numel() for w in found["model"].values())


def test_a_run_records_its_sparsity(cell, train):
    """Train rows, summary, and zeros in the final weights."""
    directory = cell(**PRUNES)
    done = train(directory)
    assert done.returncode == 0, done.stderr
    found = [row["sparsity"] for row in rows(directory, "train")]
    assert found[:5] == [0.0] * 5 and found == sorted(found)
    zeros, total, parameters = weights_of(directory)
    assert abs(zeros - 0.6 * total) <= 0.5
    assert found[14:] == [zeros / total] * 6
    wanted = {"covered": zeros / total, "all": zeros / parameters}
    assert summary(directory)["sparsity"] == wanted


def test_a_run_without_pruning_does_not_mention_it(cell, train):
    directory = cell(GPT2_MAX_ITERS="2")
    assert train(directory).returncode == 0
    assert "sparsity" not in summary(directory)
    assert all("sparsity" not in row for row in rows(directory, "train"))


def test_evaluation_sees_the_pruned_weights(cell, train, monkeypatch):
    """Evaluated at a step with an update, the zeros are there already."""
    from gpt2.training import trainer

    zeros, plain = [], trainer.evaluate

    def counting(model, *arguments):
        weights = [p for n, p in model.named_parameters() if n[:2] == "h."]
        zeros.append(sum(int((w == 0).sum()) for w in weights if w.dim() == 2))
        return plain(model, *arguments)

    monkeypatch.setattr(trainer, "evaluate", counting)
    directory = cell(**{**PRUNES, "PRUNING_FREQUENCY": "5"})
    assert train(directory).returncode == 0
    total = weights_of(directory)[1]
    wanted = [0, 0.6 * 7 / 8 * total, 0.6 * total]
    assert zeros == pytest.approx(wanted, abs=0.5)


def test_the_clip_sees_the_gradients_of_live_weights_alone(cell, train, monkeypatch):
    """The norm that is clipped and logged is the pruned network's own."""
    plain, seen = DataParallel.gradient_norm, []

    def watching(shared, parameters):
        gone = torch.cat([p.grad[p == 0] for p in parameters if p.dim() == 2])
        seen.append((len(gone), int(gone.count_nonzero())))
        return plain(shared, parameters)

    monkeypatch.setattr(DataParallel, "gradient_norm", watching)
    directory = cell(**PRUNES)
    assert train(directory).returncode == 0
    assert seen[-1][0] == weights_of(directory)[0]
    assert [nonzero for _, nonzero in seen] == [0] * len(seen)


def test_scores_that_are_no_numbers_diverge(cell, train, monkeypatch):
    """Where the loss still is one: a weight breaks in the step itself."""
    plain = Pruner.update

    def breaking(pruner, count):
        next(iter(pruner.weights.values())).data[0, 0] = math.nan
        plain(pruner, count)

    monkeypatch.setattr(Pruner, "update", breaking)
    done = train(cell("wild", **PRUNES))
    assert done.returncode == 1
    assert "error: a weight's score is not a number" in done.stderr
    assert "at step" in done.stderr


LONG = {
    **PRUNES,
    **SPAM,
    "GPT2_DROPOUT": "0.1",
    "GPT2_MAX_ITERS": "400",
    "GPT2_EVAL_INTERVAL": "100",
    "CHECKPOINT_INTERVAL": "35",
}


@pytest.fixture(scope="module")
def undisturbed(make_cell, corpus, tmp_path_factory):
    directory = make_cell(tmp_path_factory.mktemp("runs") / "undisturbed", **LONG)
    assert execute(directory, corpus) == 0
    return directory


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_resumes_to_the_same_bits(
    cell, command, train, undisturbed, number
):
    """In the middle of the schedule, with SPAM resets before and after."""
    directory = cell("stopped", **LONG)
    process = start(command, directory)
    wait_for_step(directory, 150)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert not (directory / "summary.json").exists()
    done = train(directory)
    assert done.returncode == 0, done.stderr
    assert "resumed at step" in done.stdout
    assert curve(directory) == curve(undisturbed)
    for name in ("model_sha256", "sparsity"):
        assert summary(directory)[name] == summary(undisturbed)[name]
    assert [r["sparsity"] for r in rows(directory, "train")] == [
        r["sparsity"] for r in rows(undisturbed, "train")
    ]
    assert summary(directory)["sparsity"]["covered"] == pytest.approx(0.6, abs=1e-4)
