"""A whole run by hand: from its symbols and its samples to what its records hold.

The optimizer, clipping, schedule, accumulation, ranks, dropout and evaluation written out;
shares no code with gpt2/. In float64, with bf16 products in fp32 under autocast.

Legend: R rows of tokens, T context.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.oracles import corpus, network
from tests.oracles.network import Parameters, Shape

Row = Sequence[int]


@dataclass
class Records:
    """What metrics.jsonl must hold, and the weights at the end."""

    train: list[dict] = field(default_factory=list)
    evals: list[dict] = field(default_factory=list)
    start: str = ""
    weights: Parameters = field(default_factory=dict)


class Run:
    """One cell. symbols: all of its values as they are configured, without CONFIG_.

    sample(i): the i-th training row, T + 1 tokens; windows: those of evaluation;
    bytes_per_token: of the windows' targets.
    """

    def __init__(
        self,
        symbols: dict,
        sample: Callable[[int], Row],
        windows: Sequence[Row],
        bytes_per_token: float,
        separator: int = corpus.SEPARATOR,
    ):
        self.symbols, self.sample, self.windows = symbols, sample, windows
        self.bytes_per_token, self.separator = bytes_per_token, separator
        self.seed, self.ranks = symbols["SEED"], symbols["GPUS_PER_RUN"]
        self.micro, self.parts = _cut(symbols)
        self.steps, self.rate = symbols["GPT2_MAX_ITERS"], float(
            symbols["GPT2_DROPOUT"]
        )
        self.low, self.copied = symbols["DTYPE_BF16"], symbols["PARAM_DTYPE_BF16"]
        rows = -(-symbols["GPT2_VOCAB_SIZE"] // 64) * 64
        names = ("LAYERS", "WIDTH", "HEADS")
        layers, E, H = (symbols[f"GPT2_{name}"] for name in names)
        self.shape = Shape(
            layers, E, H, symbols["MLP_DIM"], symbols["GPT2_BLOCK_SIZE"], rows
        )
        self.draws = [
            torch.Generator().manual_seed(dropout_seed(self.seed, rank))
            for rank in range(self.ranks)
        ]

    def replay(self) -> Records:
        """All of it."""
        w = self.initial()
        found = Records(start=network.digest(w))
        exact = torch.float32 if self.low else torch.float64
        w = {name: p.to(exact).contiguous() for name, p in w.items()}
        moments = {n: [torch.zeros_like(p) for _ in range(3)] for n, p in w.items()}
        for step in range(self.steps):
            if step % self.symbols["GPT2_EVAL_INTERVAL"] == 0:
                found.evals.append(self.evaluated(w, step))
            row = self.step(w, moments, step)
            found.train += [row] * self.logged(step)
        if self.steps not in [row["step"] for row in found.evals]:
            found.evals.append(self.evaluated(w, self.steps))
        found.weights = w
        return found

    def initial(self) -> Parameters:
        """The weights before the first step, fp32."""
        return network.initial(self.shape, self.seed, self.symbols["INIT_SALT"])

    def evaluated(self, w: Parameters, step: int) -> dict:
        """The evaluation row of that step: the mean over the windows, one by one."""
        total = 0.0
        for window in self.windows:
            with torch.no_grad():
                total += self._loss(w, [window], network.undropped).item()
        loss = total / len(self.windows)
        return {
            "step": step,
            "loss": loss,
            "perplexity": math.exp(loss),
            "bits_per_byte": loss / math.log(2) / self.bytes_per_token,
            "tokens": step * self.micro * self.parts * self.ranks * self.shape.T,
        }

    def logged(self, step: int) -> bool:
        """Whether the step has a row."""
        return step % self.symbols["LOG_INTERVAL"] == 0 or step == self.steps - 1

    def step(self, w: Parameters, moments: dict, step: int) -> dict:
        """One update of w and of its moments; the training row."""
        grads = {name: torch.zeros_like(p) for name, p in w.items()}
        mean, cuts = 0.0, self.parts * self.ranks
        for part in range(self.parts):
            for rank in range(self.ranks):
                first = ((step * self.parts + part) * self.ranks + rank) * self.micro
                rows = [self.sample(first + j) for j in range(self.micro)]
                mean += self._backward(w, rows, rank, grads, cuts)
        norm = math.sqrt(sum(g.double().square().sum().item() for g in grads.values()))
        self._update(w, moments, grads, norm, step)
        return {
            "step": step,
            "loss": mean,
            "lr": self.learning_rate(step),
            "grad_norm": norm,
            "tokens": (step + 1) * self.micro * cuts * self.shape.T,
        }

    def _backward(
        self, w: Parameters, rows: list[Row], rank: int, grads: Parameters, cuts: int
    ) -> float:
        """The share of a micro-batch in the step's loss; its gradients are added."""
        leaves = {name: p.clone().requires_grad_() for name, p in w.items()}
        read = {name: self._read(name, p) for name, p in leaves.items()}
        loss = self._loss(read, rows, lambda x: self._dropped(x, rank)) / cuts
        loss.backward()
        for name, leaf in leaves.items():
            grads[name] += leaf.grad
        return loss.item()

    def _read(self, name: str, p: Tensor) -> Tensor:
        """What the forward pass reads: with a working copy all but norms in bf16."""
        return p.bfloat16() if self.copied and "norm" not in name else p

    def _dropped(self, x: Tensor, rank: int) -> Tensor:
        """x with a share of `rate` at 0 and the others over 1 - rate."""
        if self.rate == 0:
            return x
        kept = torch.empty(x.shape, dtype=torch.float32)
        kept.bernoulli_(1 - self.rate, generator=self.draws[rank])
        return x * kept.to(x.dtype) / (1 - self.rate)

    def _loss(self, w: Parameters, rows: list[Row], drop: network.Drop) -> Tensor:
        rows_BT = torch.tensor([list(row) for row in rows])
        tokens_BT, targets_BT = rows_BT[:, :-1], rows_BT[:, 1:]
        starts_BT = None
        if self.symbols["DOCUMENTS_APART"]:
            found = [corpus.starts(row, self.separator) for row in tokens_BT.tolist()]
            starts_BT = torch.tensor(found)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            return network.loss(w, self.shape, tokens_BT, targets_BT, starts_BT, drop)

    def _update(
        self, w: Parameters, moments: dict, grads: Parameters, norm: float, step: int
    ) -> None:
        """Clipping, then the optimizer; decay on the blocks' matrices."""
        clip, decay = (float(self.symbols[n]) for n in ("GRAD_CLIP", "WEIGHT_DECAY"))
        scale = clip / norm if clip and norm > clip else 1.0
        lr = self.learning_rate(step)
        take = self._sgd if self.symbols["OPTIMIZER_SGD"] else self._adam
        for name, p in w.items():
            own = decay if name.startswith("h.") and p.dim() == 2 else 0.0
            take(p, grads[name] * scale, moments[name], lr, own, step)

    def _sgd(self, p, g, moments, lr, decay, step) -> None:
        """Momentum of the gradient with its L2 term; Nesterov's looks ahead."""
        mu, b = float(self.symbols["SGD_MOMENTUM"]), moments[0]
        g = g + decay * p
        b.mul_(mu if step else 0.0).add_(g)
        p.sub_(lr * (g + mu * b if self.symbols["SGD_NESTEROV"] else b))

    def _adam(self, p, g, moments, lr, decay, step) -> None:
        """Adam; W: decay beside it; Adv: the largest second moment so far."""
        names = ("ADAM_BETA1", "ADAM_BETA2", "ADAM_EPS")
        beta1, beta2, eps = (float(self.symbols[name]) for name in names)
        if self.symbols["OPTIMIZER_ADAM"]:
            g = g + decay * p
        else:
            p.mul_(1 - lr * decay)
        m, v, largest = moments
        m.mul_(beta1).add_((1 - beta1) * g)
        v.mul_(beta2).add_((1 - beta2) * g * g)
        torch.maximum(largest, v, out=largest)
        v = largest if self.symbols["OPTIMIZER_ADAMWADV"] else v
        m_hat, v_hat = m / (1 - beta1 ** (step + 1)), v / (1 - beta2 ** (step + 1))
        p.sub_(lr * m_hat / (v_hat.sqrt() + eps))

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to the final rate."""
        names = ("LEARNING_RATE", "MIN_LEARNING_RATE", "GPT2_WARMUP_STEPS")
        peak, final, warmup = (float(self.symbols[name]) for name in names)
        if step < warmup:
            return peak * (step + 1) / (warmup + 1)
        x = (step - warmup) / (self.steps - warmup)
        return final + (peak - final) * (1 + math.cos(math.pi * x)) / 2


def _cut(symbols: dict) -> tuple[int, int]:
    """(micro-batch, accumulation); 0 follows the other one."""
    micro, parts = symbols["BATCH_SIZE"], symbols["GPT2_GRADIENT_ACCUMULATION"]
    share = symbols["EFFECTIVE_BATCH"] // symbols["GPUS_PER_RUN"]
    micro = micro or share // parts
    return micro, parts or max(share // micro, 1)


def dropout_seed(seed: int, rank: int) -> int:
    """Rank 0 draws from the run's seed, rank r from a hash of both."""
    if rank == 0:
        return seed
    digest = hashlib.sha256(f"dropout:{seed}:{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") % 2**63
