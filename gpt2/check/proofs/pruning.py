"""A step that prunes follows its schedule, takes what it says, keeps it zero."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace

import torch

from gpt2.check.subject import Subject, block_matrices, require
from gpt2.model.gpt import GPT
from gpt2.pruning import Pruner, build
from gpt2.settings.run import PruningSettings

# Steps of the whole schedule, and those trained after it. With SPAM's resets more:
# one may fall into the schedule, or put the last update off.
STEPS, STEPS_WITH_RESETS = (8, 2), (12, 12)

Worth = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

EPS = 1e-8
# What a weight w is worth by its moments m and v, in float64. The lowest go.
WORTH: dict[str, Worth] = {
    "hybrid": lambda w, m, v: w * w * m.abs() / (v**0.5 + EPS),
    "magnitude": lambda w, m, v: w.abs(),
    "gradient_magnitude": lambda w, m, v: (w * w * m.abs()) ** 0.5,
    "layer_adaptive": lambda w, m, v: (w * w * m.abs()) ** 0.5,
    "movement": lambda w, m, v: -torch.copysign(m, w * m) / (v**0.5 + EPS),
    "coherence": lambda w, m, v: w.abs() * m.abs() ** 1.5 / (v + EPS) ** 0.5,
    "variance": lambda w, m, v: w.abs() * v**0.25,
}
# Of fp32 scores: what may lie between a weight that goes and one that stays.
ROUNDING = 1e-5
# Halvings that leave nothing of an interval of doubles.
BISECTIONS = 60


def reaches_its_sparsity(subject: Subject) -> None:
    """The sparsity, counted on the weights, is that of the schedule after every
    step, to one weight, and what goes is worth less than what stays.

    Pruned weights and their optimizer state are zero after every step, live ones
    train, nothing outside the blocks' matrices is pruned; layer_adaptive takes
    more from later blocks, by its factors.
    """
    if subject.settings.pruning.kind != "none":
        sparsity(subject)


def sparsity(subject: Subject) -> float:
    """The share of zeros that the step's schedule, squeezed into a few steps, leaves
    in the blocks' matrices of the small model. Raises Broken.
    """
    model = subject.build()
    matrices = block_matrices(model)
    optimizer = subject.optimizer(model)
    settings = replace(subject.settings.pruning, frequency=1)
    pruner = build(model, optimizer, settings, subject.settings.optim)
    require(
        list(pruner.masks) == list(matrices),
        f"masks cover other parameters than the blocks' matrices: "
        f"{sorted(pruner.masks.keys() ^ matrices.keys())}",
    )
    ranking = _Ranking(settings, matrices, optimizer)
    total, wanted = sum(p.numel() for p in matrices.values()), 0
    resets = subject.settings.optim.spam_interval
    schedule, after = STEPS_WITH_RESETS if resets else STEPS
    for step in range(1, schedule + after + 1):
        before = {name: p.detach().clone() for name, p in matrices.items()}
        optimizer.zero_grad()
        subject.loss(model, seed=step).backward()
        ranking.moved()
        pruner.before_step()
        optimizer.step()
        spent = min(step / schedule, 1.0)
        with ranking.of(pruner) if pruner.due(step, spent) else nullcontext():
            pruner.after_step(step, spent)
        if settings.criterion == "layer_adaptive":
            _rising(pruner)
        _zero(model, optimizer, pruner)
        _trained(before, pruner)
        if not subject.settings.optim.settling(step):
            wanted = max(wanted, _scheduled(settings, spent) * total)
        zeros = sum(int((p == 0).sum()) for p in matrices.values())
        require(
            abs(zeros - wanted) <= 1,
            f"{zeros} of {total} weights are zero after step {step}, the schedule "
            f"to {settings.final:g} asks for {wanted:.0f}",
        )
    return zeros / total


def _scheduled(settings: PruningSettings, spent: float) -> float:
    """The sparsity after that fraction of the budget: fast first, then level."""
    p = (spent - settings.start) / (settings.end - settings.start)
    return settings.final * (1 - (1 - min(max(p, 0.0), 1.0)) ** 3)


class _Ranking:
    """What the covered weights are worth by the formulas, and who may go first."""

    def __init__(
        self,
        settings: PruningSettings,
        matrices: dict[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
    ):
        self.settings, self.matrices = settings, matrices
        self.optimizer = optimizer
        self.sums = {n: torch.zeros_like(p.double()) for n, p in matrices.items()}

    def moved(self) -> None:
        """Add −w · g of this step, where that is what a weight is worth."""
        if self.settings.kind != "movement":
            return
        for name, p in self.matrices.items():
            self.sums[name] -= p.detach().double() * p.grad.double()

    def worth(self, name: str) -> torch.Tensor:
        """Scores of one matrix, float64."""
        if self.settings.kind == "movement":
            return self.sums[name].clone()
        w = self.matrices[name].detach().double()
        if self.settings.kind == "magnitude":
            return w.abs()
        state = self.optimizer.state[self.matrices[name]]
        m, v = state["exp_avg"].double(), state["exp_avg_sq"].double()
        return WORTH[self.settings.criterion](w, m, v)

    def of(self, pruner: Pruner) -> "_Compared":
        """A context in which the pruner's masks may grow."""
        return _Compared(self, pruner)

    def pools(
        self, worth: dict[str, torch.Tensor]
    ) -> Iterator[tuple[str, torch.Tensor, Callable]]:
        """Where weights compete: (name, their scores, their part of a dict)."""
        if self.settings.pattern == "2:4":
            for name, scores in worth.items():
                yield name, scores.view(-1, 4), lambda d, n=name: d[n].view(-1, 4)
            return
        pools: dict[str, list[str]] = {}
        for name in worth:
            adaptive = self.settings.criterion == "layer_adaptive"
            key = ".".join(name.split(".")[:2]) if adaptive else "the blocks"
            pools.setdefault(key, []).append(name)
        for key, names in pools.items():

            def part(d, names=names):
                return torch.cat([d[n].flatten() for n in names]).view(1, -1)

            yield key, part(worth), part


class _Compared:
    """Inside, the masks grow by weights that were worth less than all that stay."""

    def __init__(self, ranking: _Ranking, pruner: Pruner):
        self.ranking, self.pruner = ranking, pruner

    def __enter__(self) -> None:
        self.before = {n: mask.clone() for n, mask in self.pruner.masks.items()}
        self.worth = {n: self.ranking.worth(n) for n in self.before}

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:
            return
        after = self.pruner.masks
        for name, mask in after.items():
            require(bool(mask[self.before[name]].all()), f"{name}: a weight came back")
        for name, worth, part in self.ranking.pools(self.worth):
            gone, was = part(after), part(self.before)
            new, stays = gone & ~was, ~gone
            if self.ranking.settings.pattern == "2:4":
                most = int(gone.sum(1).max())
                require(most <= 2, f"{name}: {most} of four consecutive inputs went")
            best = worth.masked_fill(~new, -torch.inf).amax(1)
            least = worth.masked_fill(~stays, torch.inf).amin(1)
            slack = ROUNDING * best.abs().clamp(min=1e-30)
            odd = new.any(1) & (best > least + slack)
            require(
                not odd.any(),
                f"{name}: a weight worth {best[odd][:1].tolist()} by the criterion "
                f"went, one worth {least[odd][:1].tolist()} stays",
            )


def _rising(pruner: Pruner) -> None:
    """Block i lost min(1, λ f_i) of its weights, to one weight, with f_i rising
    from 0.7 to 1.3; λ, by bisection, is what makes that the sum over the blocks.
    """
    depth = 1 + max(int(name.split(".")[1]) for name in pruner.masks)
    gone, sizes = [0] * depth, [0] * depth
    for name, mask in pruner.masks.items():
        block = int(name.split(".")[1])
        gone[block] += int(mask.sum())
        sizes[block] += mask.numel()
    factors = [0.7 + 0.6 * i / (depth - 1) for i in range(depth)]
    low, high = 0.0, 1 / min(factors)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        wanted = [n * min(1.0, middle * f) for n, f in zip(sizes, factors)]
        low, high = (middle, high) if sum(wanted) < sum(gone) else (low, middle)
    for block, (found, share) in enumerate(zip(gone, wanted)):
        require(
            abs(found - share) <= 1 + 1e-6,
            f"block {block} lost {found} of {sizes[block]} weights where rising "
            f"from block to block makes it {share:.0f}",
        )


def _zero(model: GPT, optimizer: torch.optim.Optimizer, pruner: Pruner) -> None:
    """Pruned weights and every state of their shape are exactly zero."""
    parameters = dict(model.named_parameters())
    for name, mask in pruner.masks.items():
        p = parameters[name]
        require(not _any(p, mask), f"{name}: a pruned weight is not zero")
        for key, value in optimizer.state[p].items():
            if torch.is_tensor(value) and value.shape == p.shape:
                require(
                    not _any(value, mask),
                    f"{name}: {key} of a pruned weight is not zero",
                )


def _trained(before: dict[str, torch.Tensor], pruner: Pruner) -> None:
    """The step changed every covered matrix, beyond what was pruned."""
    for name, p in pruner.weights.items():
        live = ~pruner.masks[name]
        changed = _any(p != before[name], live)
        require(changed or not live.any(), f"{name}: its live weights do not train")


def _any(values: torch.Tensor, where: torch.Tensor) -> bool:
    """Whether one of the values there is not zero; NaN is not."""
    return bool((values != 0).logical_and_(where).any())
