"""Mutants of the attention kernels: rows (statistics, documents, routing), decode."""

from tests.mutants.mutant import Mutant, Test

KERNEL = "tests/kernels/test_attention_kernel.py"
ROWS = "tests/kernels/test_attention_rows.py"
STEPS = "tests/kernels/test_attention_steps.py"
DECODES = "tests/kernels/test_decode.py"

PACKED = "tests/kernels/test_attention_packed.py"
GELU = "tests/kernels/test_gelu.py"
NORM = "tests/kernels/test_norm.py"
LAUNCHING = "tests/kernels/test_launching.py"

ROW_MUTANTS = [
    Mutant(
        "packed-batch-stride",
        "the gradient of a fused projection is written over that of the first batch",
        "kernel_backward:backward_row",
        "DQ += b * stride_gb + h * D",
        "DQ += h * D",
        Test(f"{PACKED}::test_equal_to_its_parts[case0]"),
    ),
    Mutant(
        "packed-values-first",
        "keys and values of a fused projection change places",
        "packed:_packed_backward",
        "into = launch.Gradients(*parts(dqkv, heads))",
        "q, k, v = parts(dqkv, heads)\n    into = launch.Gradients(q, v, k)",
        Test(f"{PACKED}::test_equal_to_its_parts[case0]"),
    ),
    Mutant(
        "scale-of-the-width",
        "the kernels scale by the head width whatever they are asked for",
        "attention.spec:AttentionSpec.scale_of",
        "if self.scale is None",
        "if True",
        Test(f"{KERNEL}::test_a_scale_is_one_of_the_queries"),
    ),
    Mutant(
        "reference-unscaled",
        "the reference scales by the head width whatever it is asked for",
        "kernels.attention.reference:attention",
        "if spec.scale is not None:",
        "if False:",
        Test(
            "tests/gpt2/model/test_mechanisms.py::test_ra_and_softpick_on_random_shapes"
        ),
    ),
    Mutant(
        "row-merge-short",
        "what enters a list of largest scores is not sorted into it",
        "kernel_statistics:_merged",
        "for level in tl.static_range(5):",
        "for level in tl.static_range(4):",
        Test(f"{ROWS}::test_statistic_alone_and_twice[topk]"),
    ),
    Mutant(
        "gelu-slope",
        "the slope of GELU leaves out its cubic term",
        "gelu.kernel:_gradient",
        "(SLOPE + BEND * x * x)",
        "SLOPE",
        Test(f"{GELU}::test_the_kernel_backward[64-256]"),
    ),
    Mutant(
        "gelu-bias-of-a-step",
        "the gradient of the bias holds the last rows of each program only",
        "gelu.kernel:_backward",
        "total += dx",
        "total = dx",
        Test(f"{GELU}::test_the_kernel_backward[64-256]"),
    ),
    Mutant(
        "launch-any-address",
        "a launch takes the binary of an aligned address for another one",
        "launching:_told",
        "argument.is_cuda, address % 16 == 0",
        "argument.is_cuda, True",
        Test(f"{LAUNCHING}::test_others_do_not[alignment]"),
    ),
    Mutant(
        "launch-any-constant",
        "a launch takes the binary of other constants",
        "launching:launch",
        "*kinds, *constants.items()",
        "*kinds, *constants",
        Test(f"{LAUNCHING}::test_others_do_not[constant]"),
    ),
    Mutant(
        "launch-in-any-order",
        "a launch gives constants in the caller's order",
        "launching:launch",
        "[constants[name] for name in kernel.arg_names[len(arguments) :]]",
        "[constants[n] for n in constants if n in kernel.arg_names]",
        Test(f"{LAUNCHING}::test_alike_launches_share_a_binary[grid0]"),
    ),
    Mutant(
        "operator-twice",
        "a second derivative of an operator that has none is silently partial",
        "operators:differentiable.once",
        "if torch.is_grad_enabled():",
        "if False:",
        Test("tests/kernels/test_operators.py::test_no_second_derivative"),
    ),
    Mutant(
        "norm-uncentred-gradient",
        "the gradient of a LayerNorm is that of an RMSNorm",
        "norm.kernel:_backward",
        "dx -= tl.sum(g, 0) / E",
        "pass",
        Test(f"{NORM}::test_the_kernels[True-True-True-3-96]"),
    ),
    Mutant(
        "norm-stream-cut",
        "the gradient of the residual stream ends at a norm",
        "norm.kernel:_backward",
        "if dsum_ptr is not None:",
        "if False:",
        Test(f"{NORM}::test_the_kernels[True-True-True-3-96]"),
    ),
    Mutant(
        "norm-last-row",
        "the gradient of a norm's weight holds the last row of each program only",
        "norm.kernel:_backward",
        "dweight += dout * hat",
        "dweight = dout * hat",
        Test(f"{NORM}::test_a_program_takes_several_rows"),
    ),
    Mutant(
        "norm-half-a-stream",
        "the gradient of an fp32 residual stream is rounded to 16 bits",
        "norm.kernel:_backward",
        "tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)",
        "dx = dx.to(tl.float16).to(tl.float32)\n"
        "        tl.store(dx_ptr + at, dx, mask=inside)",
        Test(f"{NORM}::test_an_fp32_stream"),
    ),
    Mutant(
        "norm-never-served",
        "under autocast the norm's kernels are never taken",
        "norm.op:serves",
        "return same and x.dtype in",
        "return False and x.dtype in",
        Test(f"{NORM}::test_what_the_kernels_serve"),
    ),
    Mutant(
        "norm-of-a-slice",
        "a branch that is a slice is read as if it were dense",
        "norm.op:_add_norm",
        "return forward(x.contiguous(), y.contiguous(),",
        "return forward(x, y,",
        Test(f"{NORM}::test_the_op[both-branch0-True-True]"),
    ),
    Mutant(
        "norm-of-the-stream",
        "the norm leaves out what the branch adds",
        "norm.op:add_norm",
        "return s, F.layer_norm(s,",
        "return s, F.layer_norm(x,",
        Test(f"{NORM}::test_off_the_gpu_it_is_torchs_own"),
    ),
    Mutant(
        "auto-slow-in-fp32",
        "auto takes our kernels for plain attention in fp32 too",
        "impl:resolve_attention",
        'faster = kind == "cuda" and half and _ours_is_faster(settings)',
        'faster = kind == "cuda" and _ours_is_faster(settings)',
        Test(f"{STEPS}::test_ours_for_plain_attention_where_it_is_faster"),
    ),
    Mutant(
        "row-cut-at-the-last",
        "the gradient of the top-k mass leaves out the k-th key",
        "kernel_statistics:_finish",
        "cut = tl.maximum(0.5 * best + 0.5 * before, LOW)",
        "cut = before",
        Test(f"{ROWS}::test_statistic_alone_and_twice[topk]"),
    ),
    Mutant(
        "row-entropy-sign",
        "the gradient of the entropy has the other sign",
        "attention.launch",
        '"entropy": (ENTROPY.value, -1.0, 1.0)',
        '"entropy": (ENTROPY.value, 1.0, 1.0)',
        Test(f"{ROWS}::test_statistic_alone_and_twice[entropy]"),
    ),
    Mutant(
        "row-delta-forgotten",
        "delta does not know of the statistic",
        "attention.launch:statistic_rows",
        "whole = dvalue * value * (-degree * variant.scale)",
        "whole = 0.0 * dvalue",
        Test(f"{ROWS}::test_statistic_alone_and_twice[topk]"),
    ),
    Mutant(
        "document-one-before",
        "a row sees the last token of the document before its own",
        "attention.kernel_tiles:_reach",
        "reach = tl.minimum(t - start + 1, window)",
        "reach = tl.minimum(t - start + 2, window)",
        Test(f"{ROWS}::test_documents_are_apart"),
    ),
    Mutant(
        "document-ends-early",
        "keys hear nothing from the rows of their document",
        "attention.launch:backward_column",
        "torch.searchsorted(starts, starts, right=True, out_int32=True)",
        "torch.searchsorted(starts, starts, right=False, out_int32=True)",
        Test(f"{ROWS}::test_documents_are_apart"),
    ),
    Mutant(
        "band-without-an-edge",
        "keys get the transposed score's gradient from all that the strips hold",
        "kernel_column:_column_strips",
        "part = _dot(tl.where(back <= band, ds, 0.0), q, part)",
        "part = _dot(ds, q, part)",
        Test(f"{KERNEL}::test_close_to_float64[33-2-1-16-float32-softmax-5]"),
    ),
    Mutant(
        "softpick-floor-of-another-row",
        "the keys' gradient takes e^-L from the row before",
        "kernel_column:_sums",
        "floor = tl.load(FLOOR + t)",
        "floor = tl.load(FLOOR + tl.maximum(t - 1, 0))",
        Test(f"{KERNEL}::test_close_to_float64[64-2-1-16-float16-softpick]"),
    ),
    Mutant(
        "softpick-quiet-rows-left",
        "rows whose scores are all small keep what e^s - 1 cancelled to",
        "attention.kernel_tiles:_needs_care",
        "care = (tl.abs(log_sum) > LOUD) | quiet",
        "care = tl.abs(log_sum) > LOUD",
        Test(f"{KERNEL}::test_softpick_keeps_small_scores"),
    ),
    Mutant(
        "softpick-delta-once",
        "where softpick's score is positive, dS lacks -delta",
        "attention.kernel_tiles:_weights",
        "slope = dp - (2 * delta if PICK and CLAMP else delta)",
        "slope = dp - delta",
        Test(f"{KERNEL}::test_close_to_float64[64-2-1-16-float16-softpick]"),
    ),
    Mutant(
        "rows-behind-the-last",
        "keys hear from rows behind the last",
        "kernel_backward:_store_sums",
        "tl.where(t < T, level, HIGH)",
        "tl.where(t < T, level, 0.0)",
        Test(f"{KERNEL}::test_descriptors_at_a_ragged_end[softpick-fused]"),
    ),
    Mutant(
        "rate-behind-the-last",
        "a statistic's gradient holds no number behind the last row",
        "attention.launch:statistic_rows",
        "rate = per_row(q, zero=True)",
        "rate = per_row(q)",
        Test(
            f"{ROWS}::test_close_to_float64[T=33 H=2 D=16 dtype=float32 "
            "normaliser=softmax window=7 layout=fused statistic=entropy]"
        ),
    ),
    Mutant(
        "saved-rows-dense",
        "backward takes L for padded where a hook on saved tensors made it dense",
        "attention.launch:backward",
        "L, cut = whole(L, q), whole(cut, q)",
        "L, cut = L, cut",
        Test(f"{KERNEL}::test_hooks_on_saved_tensors"),
    ),
    Mutant(
        "cut-behind-the-last",
        "where the largest weights end holds no number behind the last row",
        "attention.launch:forward",
        "cut = per_row(q, zero=True)",
        "cut = per_row(q)",
        Test(
            f"{ROWS}::test_close_to_float64[T=33 H=2 D=16 dtype=float16 "
            "normaliser=softmax layout=contiguous statistic=topk]"
        ),
    ),
    Mutant(
        "level-in-fp32",
        "L of fp32 rows is kept in fp32, which has no digit left at large scores",
        "attention.rows:levels",
        "torch.float64 if q.dtype == torch.float32 else torch.float32",
        "torch.float32",
        Test(
            f"{KERNEL}::test_close_to_float64"
            "[60-4-4-16-float32-softmax-None-None-fused-100.0-4]"
        ),
    ),
    Mutant(
        "routing-first-eighth",
        "a key of a tile is taken for the one of its first eighth",
        "topk_routing.kernel:_routing_blocks",
        "tl.broadcast_to(first + n0 + i * part, [BLOCK_M, part])",
        "tl.broadcast_to(first + n0, [BLOCK_M, part])",
        Test("tests/kernels/test_topk_routing.py::test_of_equals_the_earlier"),
    ),
    Mutant(
        "routing-ties-last",
        "of keys with equal weights the routing keeps the latest",
        "topk_routing.kernel:_enter",
        "above = value > values[i]",
        "above = value >= values[i]",
        Test("tests/kernels/test_topk_routing.py::test_of_equals_the_earlier"),
    ),
    Mutant(
        "auto-without-kernels",
        "auto takes the reference on a GPU",
        "impl:_can",
        'return name == "sdpa" or kind == "cuda"',
        'return name == "sdpa"',
        Test(f"{STEPS}::test_auto_takes_what_serves[5]"),
    ),
    Mutant(
        "kernels-unscaled-queries",
        "RA-CT on the scores forgets to scale them on our kernels",
        "cores:triton",
        "q_BTHD = (_per_query(gate.factor(rows[gate.kind])) * q_BTHD).to(q_BTHD)",
        "q_BTHD = q_BTHD + 0.0 * _per_query(gate.factor(rows[gate.kind]))",
        Test(f"{STEPS}::test_equal_to_the_reference[17-False]"),
    ),
]

DECODE_MUTANTS = [
    Mutant(
        "decode-band-short",
        "a decode's band reaches W - 1 keys back",
        "decode.kernel:_keys",
        "inside = (back >= 0) & (back <= band)",
        "inside = (back >= 0) & (back < band)",
        Test(f"{DECODES}::test_the_edge_of_the_band[9]"),
    ),
    Mutant(
        "decode-band-late",
        "the blocks that the band touches begin one key late",
        "decode.kernel:parts",
        "near = tl.maximum(S - n - band, 0)",
        "near = tl.maximum(S - n - band + 1, 0)",
        Test(f"{DECODES}::test_the_edge_of_the_band[24]"),
    ),
    Mutant(
        "decode-band-of-keys",
        "the new keys of the band are of another group",
        "decode.kernel:_transposed",
        "(h // J_GROUP)[:, None]",
        "(h % J_GROUP)[:, None]",
        Test(f"{DECODES}::test_heads_read_their_group"),
    ),
    Mutant(
        "decode-group",
        "heads are dealt to the key heads in turn",
        "decode.kernel:parts",
        "h = g * GROUP + row % GROUP",
        "h = row % GROUP * groups + g",
        Test(f"{DECODES}::test_heads_read_their_group"),
    ),
    Mutant(
        "decode-merge-unscaled",
        "parts are added as if their maxima were the same",
        "decode.kernel:merge",
        "share = tl.exp2((its_top - top) * unit)",
        "share = tl.where(here, 1.0, 0.0)",
        Test(f"{DECODES}::test_parts_are_merged_by_their_maxima"),
    ),
    Mutant(
        "decode-window-long",
        "a decode's window has one key more",
        "decode.kernel:_keys",
        "(back >= 0) & (back < window)",
        "(back >= 0) & (back <= window)",
        Test(f"{DECODES}::test_the_edge_of_the_window[18]"),
    ),
    Mutant(
        "decode-window-late",
        "the parts of a window begin one key late",
        "decode.launch:divide",
        "max(S - n - window + 1, 0)",
        "max(S - n - window + 2, 0)",
        Test(f"{DECODES}::test_the_edge_of_the_window[18]"),
    ),
    Mutant(
        "decode-always-reference",
        "auto decodes by the reference on a GPU",
        "decoder:resolve_decoder",
        'return "reference" if obstacle else "triton"',
        'return "reference"',
        Test(f"{DECODES}::test_auto_takes_what_serves"),
    ),
]

SECTIONS = {
    "Rows of the attention kernels": ROW_MUTANTS,
    "Decode kernels": DECODE_MUTANTS,
}
