"""How large the cache of a run's model is while it generates, from its records."""

from matrix.results.run import Run

BYTES = {"fp32": 4, "bf16": 2}


def cached_values(run: Run, layers: int | None = None) -> tuple[int, int] | None:
    """(values per token, values that do not grow with the context) of all layers.

    Of `layers` layers where it is given; None where a record lacks one, or where layers
    differ and some of them are asked for.
    """
    grows = run.value("cache_per_token_layer")
    constant = run.value("cache_constant_layer")
    if None not in (grows, constant):
        layers = layers or run.value("layers")
        return None if layers is None else (grows * layers, constant * layers)
    whole = run.value("cache_per_token"), run.value("cache_constant")
    return None if layers or None in whole else whole


def cache_bytes(run: Run, tokens: int | None = None) -> int | None:
    """Bytes of the cache of one sequence of so many tokens, None: that fills the context.

    layers · (T · n + c) · b: T tokens, n values per token and layer, c values per layer that
    do not grow, b bytes of the compute type; what is fp32 in any type takes 4. None
    where a record lacks one.
    """
    values, context = cached_values(run), tokens or run.value("context")
    size = BYTES.get(run.value("dtype"))
    if values is None or context is None or size is None:
        return None
    grows, constant = values
    wide = run.value("cache_fp32") or 0  # older runs do not tell it apart
    return (context * grows + constant - wide) * size + wide * BYTES["fp32"]
