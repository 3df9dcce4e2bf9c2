"""How large the cache of a run's model is while it generates, from its records."""

from matrix.results.run import Run

BYTES = {"fp32": 4, "bf16": 2}


def cached_values(run: Run, layers: int | None = None) -> tuple[int, int] | None:
    """(values per token, values that do not grow with the context) of all layers.

    Of `layers` layers where it is given; None where a record lacks one.
    """
    layers = layers or run.value("layers")
    grows = run.value("cache_per_token_layer")
    constant = run.value("cache_constant_layer")
    if None in (layers, grows, constant):
        return None
    return grows * layers, constant * layers


def cache_bytes(run: Run) -> int | None:
    """Bytes of the cache of one sequence that fills the context.

    layers · (T · n + c) · b: n values per token and layer, c values per layer that
    do not grow, b bytes of the compute type. None where a record lacks one.
    """
    values, context = cached_values(run), run.value("context")
    size = BYTES.get(run.value("dtype"))
    if values is None or context is None or size is None:
        return None
    grows, constant = values
    return (context * grows + constant) * size
