"""What `make aot` compiles of kernels without a table of tiles, which run with one
block size everywhere, in the variants that a launch can ask for. Where flags
only add work, all of them together and none.
"""

from collections.abc import Iterator
from itertools import product

import torch

from kernels.adamw import kernel as adamw
from kernels.aot import Plain
from kernels.gelu import kernel as gelu
from kernels.linear_cross_entropy import kernel as loss
from kernels.norm import kernel as norm
from kernels.norm.op import WIDEST
from kernels.pruning import kernel as pruning
from kernels.pruning.reference import SCORES
from kernels.targets import TARGETS

LAYOUT = {"table": "*i64", "tensors": "i32", "tensor_C": "*i64", "start_C": "*i64"}
LAYOUT |= {"sizes_N": "*i64"}
BOOLS = (False, True)
HALF = {"*bf16": torch.bfloat16, "*fp16": torch.float16}
FLOATS = HALF | {"*fp32": torch.float32}
# GPT-2's residual stream, and the widest with as many stages and at all.
WIDTHS = (768, norm.STAGED, WIDEST)


def others(targets: tuple[str, ...] = TARGETS) -> Iterator[Plain]:
    """Every case of every target."""
    for target in targets:
        for kernel, types, constants, warps in (
            *_adamw(),
            *_gelu(),
            *_loss(target),
            *_mix(),
            *_norm(target),
            *_pruning(),
        ):
            yield Plain(target, f"kernels.{kernel}", types, constants, warps)


def _adamw() -> Iterator[tuple]:
    scalars = ("theta", "keep", "new1", "beta2", "new2", "size", "root", "eps")
    for low, more, aligned in product(BOOLS, BOOLS, (1, 16)):
        fixed = {"LOW": low, "MASKED": more, "ALIGNED": aligned, "BLOCK": adamw.BLOCK}
        types = LAYOUT | {"parts_C": "*fp32"}
        yield "adamw.kernel:_square_sum", types, fixed, adamw.WARPS
        types = LAYOUT | {"scale": "*fp32"} | dict.fromkeys(scalars, "fp32")
        both = {"CLIPS": more, "SCALED": more, "COPIED": 5 if more else 0}
        yield "adamw.kernel:_step", types, fixed | both, adamw.WARPS


def _gelu() -> Iterator[tuple]:
    for kind, dtype in HALF.items():
        types = {"x_ptr": kind, "y_ptr": kind, "size": "i32"}
        warps = gelu.forward_warps(dtype)
        yield "gelu.kernel:_forward", types, {"BLOCK": gelu.BLOCK}, warps
        types = dict.fromkeys(("dy_ptr", "x_ptr", "dx_ptr"), kind)
        alone = types | {"size": "i32"}, {"BLOCK": gelu.BLOCK}, gelu.ALONE_WARPS
        yield "gelu.kernel:_backward_alone", *alone
        types |= {"sums_ptr": "*fp32", "N": "i32", "F": "i32"}
        fixed = {"COLUMNS": gelu.COLUMNS, "ROWS": gelu.ROWS, "STEP": gelu.STEP}
        yield "gelu.kernel:_backward", types, fixed, gelu.WARPS


def _loss(target: str) -> Iterator[tuple]:
    for (kind, dtype), gradient in product(FLOATS.items(), BOOLS):
        types = {"logits_ptr": kind, "target_ptr": "*i64", "loss_ptr": "*fp32"}
        types |= {"stride": "i32", "V": "i32", "scale": "fp32"}
        fixed = {"BLOCK": loss.BLOCK, "GRADIENT": gradient}
        yield "linear_cross_entropy.kernel:_row", types, fixed, loss.warps(
            target, dtype
        )


def _mix() -> Iterator[tuple]:
    for kind in ("*bf16", "*fp32"):
        types = {"M": kind, "INDEX": "*i32", "WEIGHT": "*fp32", "OUT": kind}
        types |= {"stride": "i32", "T": "i32"}
        yield "topk_routing.kernel:mix", types, {"R": 96, "R_PAD": 128, "TOP": 8}, 4


def _norm(target: str) -> Iterator[tuple]:
    streams = [(kind, x) for kind in HALF for x in (kind, "*fp32")]
    for (kind, x), E, more in product(streams, WIDTHS, BOOLS):
        block, warps = norm.shape(target, E)
        fixed = {"E": E, "BLOCK": block, "CENTRED": more}
        rows = dict.fromkeys(("weight_ptr", "mean_ptr", "rate_ptr"), "*fp32")
        types = {"x_ptr": x, "y_ptr": kind, "sum_ptr": x, "out_ptr": kind}
        types |= rows | {"eps": "fp32"}
        given = _given({"bias_ptr": "*fp32"}, types, fixed, more)
        yield "norm.kernel:_forward", *given, warps
        types = {"sum_ptr": x, "dout_ptr": kind, "dx_ptr": x, **rows}
        types |= {"lines_ptr": "*fp32", "N": "i32"}
        fixed = {**fixed, "BIAS": more, "STAGES": norm.stages(block)}
        types, fixed = _given({"dsum_ptr": x}, types, fixed, more)
        given = _given({"dy_ptr": kind}, types, fixed, x != kind)
        yield "norm.kernel:_backward", *given, warps


def _given(more: dict, types: dict, fixed: dict, given: bool) -> tuple[dict, dict]:
    """(types, constants) with one more argument, which is None where not `given`."""
    if given:
        return types | more, fixed
    return types, fixed | dict.fromkeys(more)


def _pruning() -> Iterator[tuple]:
    state = {"state": "*i64"}
    keys = {"kept_2K": "*i32", "room": "i32", **state}
    block = {"BLOCK": pruning.BLOCK}
    for shift in (0, 24):
        types, fixed = {**keys, "bins": "*i32"}, {"SHIFT": shift, **block}
        yield "pruning.kernel:_count_keys", types, fixed, pruning.WARPS
        first = {"FIRST": shift == 24}
        yield "pruning.kernel:_descend", {"bins": "*i32", **state}, first, 4
    types = {**keys, "found": "*i64", "ties_T": "*i64"}
    yield "pruning.kernel:_collect", types, block, pruning.WARPS
    yield "pruning.kernel:_zero", LAYOUT, {"ALIGNED": 16, **block}, pruning.WARPS
    yield from _ranking(state, {"LAST": pruning.LAST}, block)


def _ranking(state: dict, lasts: dict, block: dict) -> Iterator[tuple]:
    """The passes that score weights: every criterion in one of them, which is all
    that it differs in, and the longest of them in all passes.
    """
    types, warps = LAYOUT | {"total": "i32", **state}, pruning.WARPS
    for criterion, pattern in product(SCORES, ("unstructured", "2:4")):
        fixed = {"CRITERION": criterion, "PATTERN": pattern, "ALIGNED": 16, **block}
        mark = {**fixed, "TIED": True, "ZEROED": 3}
        yield "pruning.kernel:_mark", types | {"last": "*i64"}, mark, warps
        if criterion != "coherence":
            continue
        for shift in (0, 24):
            its = {**fixed, "SHIFT": shift}
            yield "pruning.kernel:_count", types | {"bins": "*i32"}, its, warps
        small = {"BLOCK": pruning.RUN, "CHUNK": pruning.BLOCK, "EVERY": pruning.EVERY}
        sampled = LAYOUT | {"total": "i32", "sample_S": "*i32"}
        yield "pruning.kernel:_sample", sampled, {**fixed, **small, **lasts}, 1
        ends = dict.fromkeys(("samples", "low_at", "high_at", "room"), "i32")
        split = types | {"sample_S": "*i32", "kept_2K": "*i32", **ends}
        yield "pruning.kernel:_split", split, {**fixed, **lasts}, warps
        yield "pruning.kernel:_ties", types | {"ties_C": "*i64"}, fixed, warps
        one = types | {"chunk_at": "*i64", "left_at": "*i64", "last": "*i64"}
        yield "pruning.kernel:_last", one, fixed, warps
