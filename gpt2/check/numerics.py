"""What training on a GPU will ask of the model: bf16, one compiled graph."""

import torch

from gpt2.check.subject import Subject, require


def bf16(subject: Subject) -> None:
    """Under bf16 autocast loss and gradients stay finite."""
    model = subject.build()
    with torch.autocast("cpu", torch.bfloat16):
        loss = subject.loss(model)
    loss.backward()
    require(bool(torch.isfinite(loss)), f"the loss under bf16 is {loss.item()}")
    for name, parameter in model.named_parameters():
        finite = torch.isfinite(parameter.grad).all()
        require(bool(finite), f"the gradient of {name} under bf16 is not finite")


def one_graph(subject: Subject) -> None:
    """torch.compile traces the training step as one graph, without a break.

    Two layers: one block tells, one hears, and tracing is most of a check.
    """
    torch._dynamo.reset()
    model = subject.build(layers=2)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    rows = subject.tokens()
    loss = compiled(*subject.halves(rows))
    require(
        torch.allclose(loss, subject.loss(model)), "the traced graph gives another loss"
    )
