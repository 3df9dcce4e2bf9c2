"""Operators of torch.library with little between a call and what it calls.

torch.library.custom_op costs the host some 30 µs per call: its kernel for autograd is
Python even where nothing is to be differentiated, dynamo is turned off for the call,
and outputs are compared with inputs for aliases. A training step has a hundred calls.
Registered one level below, an operator costs 5 to 15 µs. Aliases are what the tests'
opcheck looks for.
"""

import inspect
from collections.abc import Callable

import torch

_LIBRARY = torch.library.Library("kablate", "FRAGMENT")


def operator(name: str) -> Callable[[Callable], torch._ops.OpOverload]:
    """A decorator: the function as the operator kablate::name, on every device. It
    returns new tensors and changes none; its annotations are the schema, where a last
    `*rest: T` of a NamedTuple T stands for T's fields. Without `differentiable`,
    RuntimeError where a gradient is asked of it: torch would warn and give none.
    """

    def register(function: Callable) -> torch._ops.OpOverload:
        function.__signature__ = _flat(inspect.signature(function))
        schema = torch.library.infer_schema(function, mutates_args=())
        _LIBRARY.define(name + schema, tags=torch.Tag.pt2_compliant_tag)
        guarded = _without_gradient(name, function)
        _LIBRARY.impl(name, guarded, "CompositeExplicitAutograd")
        return getattr(torch.ops.kablate, name).default

    return register


def _flat(signature: inspect.Signature) -> inspect.Signature:
    """With the fields of T, without their defaults, for a last `*rest: T`."""
    *given, last = signature.parameters.values()
    if last.kind is not last.VAR_POSITIONAL:
        return signature
    fields = inspect.signature(last.annotation).parameters.values()
    given += [field.replace(default=field.empty) for field in fields]
    return signature.replace(parameters=given)


def fake(op: torch._ops.OpOverload) -> Callable[[Callable], Callable]:
    """A decorator: what the operator returns in shape, type and strides."""

    def register(function: Callable) -> Callable:
        guarded = _without_gradient(op._opname, function)
        torch.library.register_fake(op.name(), guarded, lib=_LIBRARY)
        return function

    return register


def _without_gradient(name: str, function: Callable) -> Callable:
    """The function, which refuses to be part of a graph: the kernel that
    `differentiable` puts before it calls it without one.
    """

    def guarded(*given):
        if torch.is_grad_enabled() and any(
            isinstance(x, torch.Tensor) and x.requires_grad for x in given
        ):
            raise RuntimeError(f"kablate::{name} has no gradient: use torch.no_grad()")
        return function(*given)

    return guarded


def differentiable(
    op: torch._ops.OpOverload,
    backward: Callable,
    setup_context: Callable,
    twice: bool = False,
) -> None:
    """Gives the operator its gradient, as torch.library.register_autograd does. twice:
    backward can be differentiated; else it raises NotImplementedError where that is
    asked for, as what it calls has no gradient.
    """

    def once(ctx, *grads):
        if torch.is_grad_enabled():
            raise NotImplementedError(f"{op.name()} has no second derivative")
        return backward(ctx, *grads)

    torch.library.register_autograd(
        op.name(),
        backward if twice else once,
        setup_context=setup_context,
        lib=_LIBRARY,
    )
