"""Mutants of what is promised in fp32 at least."""

from tests.mutants.mutant import Mutant, Test, check

WIDE = "tests/gpt2/model/test_wide.py"
GATE = {"MLP_ATTN_GATE": "y"}

NARROW = [
    Mutant(
        "normaliser-in-16-bits",
        "the normaliser is computed in the type of the scores",
        "kernels.attention.reference:normalise",
        "s_BHnS if s_BHnS.dtype == torch.float64 else s_BHnS.float()",
        "s_BHnS",
        check("0", "bf16"),
    ),
    Mutant(
        "softpick-in-16-bits",
        "softpick's sum is computed in the type of the scores",
        "kernels.attention.reference:normalise",
        "x_BHnS = s_BHnS.masked_fill(~mask_nS, 0.0)",
        "x_BHnS = s_BHnS.bfloat16().masked_fill(~mask_nS, 0.0)",
        Test(f"{WIDE}::test_a_normaliser[softpick-dtype0]"),
    ),
    Mutant(
        "angles-in-16-bits",
        "RoPE's frequencies have the type of the queries",
        "rope:rotate_at",
        "wide = torch.promote_types(x_BnHD.dtype, torch.float32)",
        "wide = x_BnHD.dtype",
        check("0", "bf16", POSITION_ROPE="y"),
    ),
    Mutant(
        "positions-in-16-bits",
        "RoPE counts positions in the type of the queries",
        "rope:rotate_at",
        "place.to(wide)",
        "place.to(x_BnHD.dtype)",
        Test(f"{WIDE}::test_the_angles_of_rope[dtype0]"),
    ),
    Mutant(
        "cosines-in-16-bits",
        "RoPE rounds its angles to 16 bits",
        "rope:rotate_at",
        "cos_n1i, sin_n1i = angle_ni",
        "angle_ni = angle_ni.to(x_BnHD)\n    cos_n1i, sin_n1i = angle_ni",
        check("0", "bf16", POSITION_ROPE="y"),
    ),
    Mutant(
        "gate-sum-in-16-bits",
        "the running sum of the attention gate has 16 bits",
        "attn_gate:AttentionGate.forward",
        "c_Bnr.to(_sum_dtype(c_Bnr)).cumsum(dim=1)",
        "c_Bnr.cumsum(dim=1)",
        check("0", "bf16", **GATE),
    ),
    Mutant(
        "document-sum-in-16-bits",
        "the gate's sum of a document has 16 bits",
        "attn_gate:document_mean",
        "sum_BTr, d = c_BTr.to(_sum_dtype(c_BTr)), 1",
        "sum_BTr, d = c_BTr, 1",
        Test(f"{WIDE}::test_the_running_mean_of_a_gate[True]"),
    ),
    Mutant(
        "gate-total-in-16-bits",
        "a decode's running sum has 16 bits",
        "attn_gate:AttentionGate.empty_total",
        "heard_B0r.to(_sum_dtype(heard_B0r)).sum(dim=1)",
        "heard_B0r.sum(dim=1)",
        Test(f"{WIDE}::test_the_running_mean_of_a_gate[False]"),
    ),
    Mutant(
        "loss-in-16-bits",
        "the plain loss is computed in the type of the logits",
        "kernels.linear_cross_entropy.reference:_logits",
        "logits_NV.float()",
        "logits_NV",
        Test(f"{WIDE}::test_a_loss[plain]"),
    ),
    Mutant(
        "chunks-in-16-bits",
        "the chunked loss is computed in the type of the logits",
        "kernels.linear_cross_entropy.op:_rows",
        "x_nV = logits_nV.float()",
        "x_nV = logits_nV.clone()",
        Test(f"{WIDE}::test_a_loss[linear_cross_entropy]"),
    ),
    Mutant(
        "evaluation-sum-in-fp32",
        "the losses of an evaluation are added up in fp32",
        "validation:evaluate",
        "dtype=torch.float64",
        "dtype=torch.float32",
        Test(f"{WIDE}::test_the_sum_of_an_evaluation"),
    ),
    Mutant(
        "kurtosis-in-fp32",
        "fourth powers are added up in fp32",
        "statistics:_powers",
        "x_BTE.double()",
        "x_BTE",
        Test(f"{WIDE}::test_statistics_are_summed_in_float64"),
    ),
    Mutant(
        "head-sums-in-fp32",
        "what heads do is added up in fp32",
        "mixers.statistic:per_head",
        ".sum(dim=1, dtype=torch.float64)",
        ".sum(dim=1).double()",
        Test(f"{WIDE}::test_statistics_are_summed_in_float64"),
    ),
    Mutant(
        "moments-in-16-bits",
        "the second moment has 16 bits",
        "gpt2.optim.adamwspam:AdamWSPAM._moments",
        'self.state[p]["exp_avg_sq"] = torch.zeros_like(p)',
        'self.state[p]["exp_avg_sq"] = torch.zeros_like(p, dtype=torch.bfloat16)',
        Test(
            "tests/gpt2/training/test_by_hand.py::test_a_run_is_the_run_by_hand[one-pass-alone]"
        ),
    ),
    Mutant(
        "copy-sums-in-16-bits",
        "a micro-batch's gradients are added up in 16 bits",
        "precision:WorkingCopy.collect",
        "[m.grad for m in masters], [w.grad.float() for w in copies]\n            )",
        "[m.grad for m in masters], [w.grad.float() for w in copies]\n            )\n"
        "            for m in masters:\n"
        "                m.grad.copy_(m.grad.bfloat16())",
        Test("tests/gpt2/model/test_precision.py::test_gradients_add_up_in_fp32"),
    ),
]

SECTIONS = {"In fp32 at least": NARROW}
