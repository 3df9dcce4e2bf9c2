"""AdamWSPAM: AdamW with spike-aware clipping and momentum reset.

2501.06842 (SPAM) and its authors' code, with decoupled weight decay. Six departures
from that code, each with its reason in docs/optimizers.md: the reset comes a step
later, and so does the first clipping; a second moment of 0 is no bound; ε stands
beside √v̂; decay acts before the update; the bias correction counts from the reset.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch

from gpt2.optim.optimizer import MOMENTS, Groups, OptimizerFacts, moment_arguments
from gpt2.settings.run import OptimSettings
from kernels import adamw

Tensors = list[torch.Tensor]

# Steps after the start, and after a reset, in which nothing is clipped: the
# second moment has to grow first, or it would stay 0 forever.
UNCLIPPED = 20
# What a reset takes off the learning rate of the step that follows it.
DIP = 0.99


FACTS = OptimizerFacts(MOMENTS, MOMENTS, one_pass=True)


def facts(settings: OptimSettings) -> OptimizerFacts:
    """Two moments; in one pass where that is asked for."""
    return FACTS


def build(
    groups: Groups, settings: OptimSettings, one_pass: bool
) -> torch.optim.Optimizer:
    """AdamWSPAM (2501.06842), however its steps are taken."""
    return AdamWSPAM(
        groups,
        **moment_arguments(settings),
        weight_decay=0.0,
        theta=settings.spam_theta,
        interval=settings.spam_interval,
        warmup=settings.spam_warmup,
        reset_correction=settings.spam_reset_correction,
    )


class AdamWSPAM(torch.optim.Optimizer):
    """Step t = 0, 1, … with gradient g, j steps after the start or last reset:

    1. t > 0 and t divisible by `interval` (0: never): m ← 0, v ← 0, j = 0.
    2. j ≥ 20 and theta > 0, where g² > θ v and v > 0: g ← sign(g) √(θ v),
       with v of the step before, not bias-corrected.
    3. p ← p − lr λ p.
    4. m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g².
    5. p ← p − lr s m̂ / (√v̂ + ε), m̂ = m / (1 − β₁ⁿ), v̂ = v / (1 − β₂ⁿ);
       s = 1 − 0.99 (1 + cos(π j / (N + 1))) / 2 for j < N = `warmup` after a
       reset, else 1; n = j + 1, or t + 1 without `reset_correction`.

    On the CPU, without clipping and reset, this is torch.optim.AdamW(foreach=True)
    bit for bit; on a GPU one Triton kernel takes the step (kernels/adamw), equal
    to rounding. The device of the parameters at construction decides. The one
    counter is `step` in each parameter group (steps taken); it
    travels with the state dict, so a resumed run continues exactly.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        theta: float,
        interval: int,
        warmup: int,
        reset_correction: bool,
    ):
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "theta": theta,
            "interval": interval,
            "warmup": warmup,
            "reset_correction": reset_correction,
            "step": 0,
        }
        super().__init__(params, defaults)
        devices = {p.device for group in self.param_groups for p in group["params"]}
        if len(devices) != 1:
            raise ValueError(
                f"parameters on one device, not on {sorted(map(str, devices))}"
            )
        self.backend = adamw.on(devices.pop())

    @torch.no_grad()
    def step(self) -> None:
        """One step. Raises RuntimeError for a parameter without a gradient."""
        for group in self.param_groups:
            if group["params"]:
                self._update(group)

    def _update(self, group: dict[str, Any]) -> None:
        grads = self._gradients(group["params"])
        m, v, scalars = self.begin(group)
        self.backend.step(group["params"], grads, m, v, **scalars)

    @torch.no_grad()
    def begin(self, group: dict[str, Any]) -> tuple[Tensors, Tensors, dict[str, float]]:
        """Count a step of a group, with its reset when due: (m, v, the scalars).

        Whoever calls this takes the step (kernels.adamw) with what it returns.
        """
        params, t = group["params"], group["step"]
        m, v = self._moments(params)
        group["step"] = t + 1
        after_reset = 0 < group["interval"] <= t
        j = t % group["interval"] if after_reset else t
        if after_reset and j == 0:
            torch._foreach_zero_(m)
            torch._foreach_zero_(v)
        lr, (beta1, beta2) = group["lr"], group["betas"]
        n = (j if group["reset_correction"] else t) + 1
        scale = rewarming(j, group["warmup"]) if after_reset else 1.0
        scalars = {
            "theta": group["theta"] if j >= UNCLIPPED else 0.0,
            "keep": 1 - lr * group["weight_decay"],
            "beta1": beta1,
            "beta2": beta2,
            "size": lr * scale / (1 - beta1**n),
            "root": (1 - beta2**n) ** 0.5,
            "eps": group["eps"],
        }
        return m, v, scalars

    def _gradients(self, params: Tensors) -> Tensors:
        for p in params:
            if p.grad is None:
                raise RuntimeError(
                    f"a parameter of shape {tuple(p.shape)} has no gradient: with "
                    "AdamWSPAM every parameter takes part in every step"
                )
        return [p.grad for p in params]

    def _moments(self, params: Tensors) -> tuple[Tensors, Tensors]:
        """m and v of each parameter, zero before the first step."""
        for p in params:
            if not self.state[p]:
                self.state[p]["exp_avg"] = torch.zeros_like(p)
                self.state[p]["exp_avg_sq"] = torch.zeros_like(p)
        states = [self.state[p] for p in params]
        return [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]


def rewarming(j: int, warmup: int) -> float:
    """Share of the learning rate in the step j after a reset (j = 0 follows it).

    1 − 0.99 (1 + cos(π j / (N + 1))) / 2 for j < N, from then on 1.
    """
    if j >= warmup:
        return 1.0
    return 1 - DIP * (1 + math.cos(math.pi * j / (warmup + 1))) / 2
