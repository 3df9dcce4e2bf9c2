"""In which type the weights are read during training."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from gpt2.model.initial import products

WORKING = torch.bfloat16


class Weights:
    """The model's own fp32 parameters take part in the forward pass.

    model: what computes a training loss. pairs: parameters that are read through
    a copy, with it.
    """

    def __init__(
        self,
        model: nn.Module,
        pairs: Sequence[tuple[nn.Parameter, nn.Parameter]] = (),
    ):
        self.model, self.pairs = model, list(pairs)

    def collect(self) -> None:
        """After each backward pass: gradients go where the optimizer looks."""

    def collected(
        self, parameters: list[nn.Parameter], grads_N: torch.Tensor
    ) -> torch.Tensor:
        """`collect` for some parameters, whose gradients lie in one piece: the sums
        that the optimizer will read, in one piece.
        """
        return grads_N

    def drop(self) -> None:
        """After a backward pass whose gradients were `collected`."""

    def refresh(self) -> None:
        """After each optimizer step: what is read follows what was updated."""


class WorkingCopy(Weights):
    """A bf16 copy takes part in the forward pass; the fp32 parameters, the master
    weights, are what the optimizer updates and checkpoints hold (1710.03740,
    section 3.1).

    Matrices, embeddings and the biases of linear layers are copied, so the
    residual stream is bf16 too; norms, gates, filters and other vectors are the
    master's own. Gradients of the copy are added up in fp32 over micro-batches.
    """

    def __init__(self, model: nn.Module):
        low = _low(model)
        pairs = [
            (p, nn.Parameter(p.detach().to(WORKING)))
            for name, p in model.named_parameters()
            if name in low
        ]
        self.master = {working: master for master, working in pairs}
        # The modules are copied around these; what is not in a pair is shared.
        kept = {id(t): t for t in (*model.parameters(), *model.buffers())}
        kept |= {id(master): working for master, working in pairs}
        super().__init__(copy.deepcopy(model, kept), pairs)

    def collect(self) -> None:
        """Add the copy's gradients to the master's, in fp32."""
        masters, copies = zip(*self.pairs)
        if masters[0].grad is None:
            for master, working in self.pairs:
                master.grad = working.grad.float()
        else:
            torch._foreach_add_(
                [m.grad for m in masters], [w.grad.float() for w in copies]
            )
        self.drop()

    def collected(
        self, parameters: list[nn.Parameter], grads_N: torch.Tensor
    ) -> torch.Tensor:
        """The same for parameters all of the copy, or all of the master."""
        masters = [self.master[p] for p in parameters if p in self.master]
        if not masters:
            return grads_N
        sums_N = grads_N.float()
        pieces = sums_N.split([p.numel() for p in parameters])
        for master, piece_n in zip(masters, pieces, strict=True):
            if master.grad is not None:
                piece_n += master.grad.flatten()
            master.grad = piece_n.view_as(master)
        return sums_N

    def drop(self) -> None:
        """The copy keeps no gradient beyond a backward pass."""
        for _, working in self.pairs:
            working.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the master's values into the copy."""
        masters, copies = zip(*self.pairs)
        torch._foreach_copy_(copies, masters)


def _low(model: nn.Module) -> set[str]:
    """Names of the parameters that are read in bf16."""
    names = set(products(model))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            names.add(f"{name}.bias")
    return names


def build(model: nn.Module, param_dtype: str) -> Weights:
    """By CONFIG_PARAM_DTYPE: "fp32" or "bf16"."""
    return WorkingCopy(model) if param_dtype == "bf16" else Weights(model)
