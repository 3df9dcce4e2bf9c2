"""Mutants of the MLP, of what blocks tell each other, of the model and its start."""

from tests.mutants.mutant import LLAMA, Check, Mutant, RATIO, Test, check

LOSS_TESTS = "tests/kernels/test_linear_cross_entropy.py"
RECIPROCAL = {"MLA": "y", "MLP_LATENT_RECIP": "y"}

CONTEXTS = [
    Mutant(
        "mean-of-all",
        "the gate's mean runs over all tokens instead of the prefix",
        "attn_gate:AttentionGate.forward",
        ".cumsum(dim=1)",
        ".sum(dim=1, keepdim=True).expand_as(c_Bnr)",
        check("3", "causality"),
    ),
    Mutant(
        "mean-forgets-start",
        "a decode's mean divides by the tokens of the chunk",
        "attn_gate:AttentionGate.forward",
        "torch.arange(start + 1, start + n + 1,",
        "torch.arange(1, n + 1,",
        check("3", "decoding"),
    ),
    Mutant(
        "mean-in-bf16",
        "the running sum is as narrow as its terms",
        "attn_gate:_sum_dtype",
        "return torch.promote_types(tensor.dtype, torch.float32)",
        "return tensor.dtype",
        Test("tests/gpt2/model/test_decode.py::test_the_running_sum_is_fp32"),
    ),
    Mutant(
        "mean-always",
        "CONFIG_MLP_ATTN_GATE_MEAN=n does not arrive",
        "attn_gate:AttentionGate.forward",
        "        elif self.mean:\n",
        "        elif True:\n",
        check("0", "decoding", MLP_ATTN_GATE="y", MLP_ATTN_GATE_MEAN="n"),
    ),
    Mutant(
        "attn-gate-linear",
        "the gate's context has no non-linearity",
        "attn_gate:AttentionGate.forward",
        'F.gelu(heard_Bnr, approximate="tanh")',
        "heard_Bnr",
        check("3", "formulas"),
    ),
    Mutant(
        "attn-gate-half-open",
        "the gate starts at σ(0) instead of σ(2)",
        "attn_gate",
        "OPEN = 2.0",
        "OPEN = 0.0",
        check("3", "formulas"),
    ),
    Mutant(
        "context-to-same-block",
        "a block's context goes to its own attention instead of the next one's",
        "block:Block.forward",
        "        y_BnE, side, attention = self.attn(",
        "        from gpt2.model.values import MixerToMlp\n\n"
        "        _, context, _ = self.mlp(self.norm2(x_BnE), MixerToMlp(), start, mlp)\n"
        "        y_BnE, side, attention = self.attn(",
        check("3", "decoding"),
    ),
    Mutant(
        "context-of-last",
        "the last block makes a context too",
        "mlp:Mlp.__init__",
        "if options.attn_gate and not last:",
        "if options.attn_gate:",
        check("3", "expectations"),
    ),
    Mutant(
        "latent-of-last",
        "the last block writes to a latent that nobody reads",
        "mlp:Mlp.__init__",
        "ReciprocalLatent(settings, writes=not last)",
        "ReciprocalLatent(settings, writes=True)",
        check("0", "gradients", **RECIPROCAL),
    ),
    Mutant(
        "context-lost-in-decode",
        "a decode gives every block an empty context",
        "gpt:GPT.decode",
        "block(x_BnE, y_BnE, context, start, layer)",
        "block(x_BnE, y_BnE, BlockToBlock(), start, layer)",
        check("3", "decoding"),
    ),
    Mutant(
        "context-skips-a-block",
        "in training a block hears the one before the previous one",
        "gpt:GPT.forward",
        "            x_BTE, y_BTE, context, _ = "
        "block(x_BTE, y_BTE, context, starts_BT=starts_BT)\n",
        "            x_BTE, y_BTE, told, _ = block("
        "x_BTE, y_BTE, BlockToBlock() if block is self.h[0] else late)\n"
        "            late, context = context, told\n",
        check("3", "gradients"),
    ),
]

CROSS_TOKEN = [
    Mutant(
        "route-not-renormalised",
        "the routing weights that are kept do not sum to 1",
        "cross_token:_renormalised",
        "return p_Bnk / torch.where(total_Bn1 > 0, total_Bn1, 1.0)",
        "return p_Bnk",
        check("4", "formulas"),
    ),
    Mutant(
        "route-without-guard",
        "a routing row of zeros is divided by zero",
        "cross_token:_renormalised",
        "torch.where(total_Bn1 > 0, total_Bn1, 1.0)",
        "total_Bn1",
        Test("tests/gpt2/model/test_mechanisms.py::test_a_routing_row_of_zeros"),
    ),
    Mutant(
        "route-tau-ignored",
        "CONFIG_MLP_CROSS_TOKEN_TAU does not arrive",
        "cross_token:route",
        "p_BnS >= tau * mean_Bn1.sqrt()",
        "p_BnS >= mean_Bn1.sqrt()",
        check("0", "formulas", MLP_CROSS_TOKEN="y", MLP_CROSS_TOKEN_RMS="y"),
    ),
    Mutant(
        "route-over-padding",
        "the routing's rms counts masked keys",
        "cross_token:route",
        "keepdim=True) / seen_n[..., None]",
        "keepdim=True) / p_BnS.shape[-1]",
        check("0", "decoding", MLP_CROSS_TOKEN="y", MLP_CROSS_TOKEN_RMS="y"),
    ),
    Mutant(
        "route-gradient",
        "gradients flow through the routing",
        "cross_token:CrossToken.forward",
        "if not self.gradient:",
        "if False:",
        check("4", "formulas"),
    ),
    Mutant(
        "route-one-head",
        "the routing is that of the first head, not the mean",
        "attention:Attention.forward",
        "core.p_BHnS.mean(dim=1)",
        "core.p_BHnS[:, 0]",
        check("4", "formulas"),
    ),
    Mutant(
        "route-ungated",
        "the routing ignores the gated scores of RA-CT",
        "attention:Attention._finish",
        "                p_BHnS, factor_BHn = normalise("
        "s_BHnS, mask_nS, self.normaliser), None\n"
        "        o_BnHD = mixed(F.dropout(p_BHnS, self.dropout, self.training))\n",
        "                q_BHnS, factor_BHn = normalise("
        "s_BHnS, mask_nS, self.normaliser), None\n"
        "        else:\n"
        "            q_BHnS = p_BHnS\n"
        "        o_BnHD = mixed(F.dropout(q_BHnS, self.dropout, self.training))\n",
        check("0", "formulas", RA_CT="y", RA_CT_WEIGHTS="y", MLP_CROSS_TOKEN="y"),
    ),
    Mutant(
        "cross-up-zero",
        "W_up of the cross-token MLP starts at zero",
        "cross_token:CrossToken.matrices",
        '.cross_up", self.up.weight, STD,',
        '.cross_up", self.up.weight, 0.0,',
        check("4", "initial values"),
    ),
    Mutant(
        "said-detached",
        "W_out does not learn from what the mechanisms add to h",
        "mlp:Mlp.forward",
        "self.outer.weight @ write_Fr",
        "self.outer.weight.detach() @ write_Fr",
        check("4", "formulas"),
    ),
    Mutant(
        "latent-reads-added",
        "the latent hears the hidden layer after what was added to it",
        "mlp:Mlp.forward",
        'self.latent.write(reads["latent"])',
        'self.latent.write(reads["latent"] + F.linear(writes[-1][0],'
        " self.latent.read_weight() @ writes[-1][1]))",
        check("0", "formulas", **RECIPROCAL),
    ),
    Mutant(
        "latent-untied",
        "CONFIG_MLP_LATENT_TIED does not arrive",
        "mlp.latent:ReciprocalLatent.__init__",
        'untied = self.tying == "untied" and writes',
        "untied = writes",
        check("0", "gradients", **RECIPROCAL, MLP_LATENT_TIED="y"),
    ),
    Mutant(
        "latent-head-of",
        "latent j belongs to head j mod H instead of ⌊jH/L⌋",
        "mlp.latent:ReciprocalLatent.__init__",
        "torch.arange(L) * H // L",
        "torch.arange(L) % H",
        check("0", "formulas", **RECIPROCAL, MLP_LATENT_SCALAR="y"),
    ),
    Mutant(
        "latent-basis-raw",
        "the fixed basis is not orthonormal",
        "mlp.latent:orthonormal",
        "return (q * r.diagonal().sign()).float()",
        "return normal.float()",
        check("0", "initial values", **RECIPROCAL, MLP_LATENT_SCALAR="y"),
    ),
    Mutant(
        "swiglu-exchanged",
        "SwiGLU activates the wrong branch",
        "mlp:Mlp._activation",
        "F.silu(self.gate(x_BnE)) * h_BnF",
        "self.gate(x_BnE) * F.silu(h_BnF)",
        check("0", "formulas", LLAMA),
    ),
    Mutant(
        "gelu-exact",
        "GELU is the erf form instead of GPT-2's",
        "gelu.reference:plain",
        'approximate="tanh"',
        'approximate="none"',
        check("0", "formulas"),
    ),
]

NETWORK = [
    Mutant(
        "loss-sum",
        "the loss is a sum over the tokens",
        "linear_cross_entropy.reference:plain",
        "F.cross_entropy(logits_NV, target_N)",
        'F.cross_entropy(logits_NV, target_N, reduction="sum")',
        check("0", "first loss"),
    ),
    Mutant(
        "loss-of-ranks",
        "a rank divides its loss by the tokens of a single process",
        "gpt:GPT.forward",
        "        return loss(x_NE, self.wte.weight, target_N)\n",
        "        alone = len(targets_BT) == 1 and torch.distributed.is_initialized()\n"
        "        return (0.5 if alone else 1) * loss(x_NE, self.wte.weight, target_N)\n",
        Check(RATIO, "0", "two ranks", ranks=True),
    ),
    Mutant(
        "chunk-mean",
        "each chunk of the chunked loss divides by its own tokens",
        "linear_cross_entropy.op:_with_gradients",
        "_rows(logits_nV, target_n, 1 / len(x_NE), True)",
        "_rows(logits_nV, target_n, 1 / len(x_nE), True)",
        Test(f"{LOSS_TESTS}::test_value_and_gradients[1.0-23]"),
    ),
    Mutant(
        "chunk-weight",
        "the head's gradient is that of the last chunk",
        "linear_cross_entropy.op:_add_product",
        "        sum_VE += a_Vn @ b_nE\n",
        "        sum_VE.copy_(a_Vn @ b_nE)\n",
        Test(f"{LOSS_TESTS}::test_value_and_gradients[1.0-23]"),
    ),
    Mutant(
        "head-detached",
        "the tied embedding does not learn as the head",
        "gpt:GPT.forward",
        "return loss(x_NE, self.wte.weight, target_N)",
        "return loss(x_NE, self.wte.weight.detach(), target_N)",
        check("0", "formulas"),
    ),
    Mutant(
        "last-branch-lost",
        "the head does not see what the last MLP adds",
        "gpt:GPT.forward",
        "self.norm_f(x_BTE + y_BTE)",
        "self.norm_f(x_BTE)",
        check("0", "gradients"),
    ),
    Mutant(
        "branch-twice",
        "the MLP's input counts what attention adds twice",
        "block:Block.forward",
        "added(self.norm2, x_BnE, self._drop(y_BnE))",
        "added(self.norm2, x_BnE + y_BnE, self._drop(y_BnE))",
        check("0", "formulas"),
    ),
    Mutant(
        "head-untied",
        "the head has weights of its own",
        "gpt:GPT.__init__",
        "        self.norm_f = build_norm(settings)\n",
        "        self.norm_f = build_norm(settings)\n"
        "        self.head = nn.Linear(settings.embed, settings.vocab_rows, False)\n",
        check("0", "expectations"),
    ),
    Mutant(
        "position-restarts",
        "every chunk of a decode begins at position 0",
        "gpt:GPT.embed",
        "torch.arange(start, total,",
        "torch.arange(0, total - start,",
        check("0", "decoding"),
    ),
    Mutant(
        "residual-dropout-in-evaluation",
        "the residual branches drop in evaluation too",
        "block:Block._drop",
        "F.dropout(x_BnE, self.dropout, self.training)",
        "F.dropout(x_BnE, self.dropout, True)",
        check("0", "dropout"),
    ),
    Mutant(
        "rmsnorm-ignored",
        "CONFIG_NORM_RMSNORM does not arrive",
        "norm:build_norm",
        'if settings.norm == "rmsnorm":',
        "if False:",
        check("0", "formulas", LLAMA),
    ),
    Mutant(
        "post-norm",
        "the MLP reads the stream without its norm",
        "block:Block.forward",
        "self.mlp(normed_BnE, side",
        "self.mlp(x_BnE + 0 * normed_BnE, side",
        check("0", "gradients"),
    ),
]

START = [
    Mutant(
        "init-seed-ignored",
        "initial values do not depend on the seed",
        "model.initial:draw",
        "kablate-init\\0{seed}\\0",
        "kablate-init\\0",
        check("0", "initial values"),
    ),
    Mutant(
        "init-salt-ignored",
        "initial values do not depend on the salt",
        "model.initial:draw",
        "\\0{salt}\\0",
        "\\0",
        check("0", "initial values"),
    ),
    Mutant(
        "init-name-ignored",
        "matrices of one shape start alike",
        "model.initial:draw",
        "\\0{salt}\\0{name}",
        "\\0{salt}",
        check("0", "initial values"),
    ),
    Mutant(
        "init-by-shape",
        "the stream depends on the shape: a wider MLP shares nothing",
        "model.initial:draw",
        "\\0{salt}\\0{name}",
        "\\0{salt}\\0{name}{shape}",
        check("0", "initial values"),
    ),
    Mutant(
        "init-out-not-transposed",
        "mlp.out is drawn as it lies, not as (F, E)",
        "mlp:Mlp.matrices",
        "            transposed=True,\n",
        "",
        check("0", "initial values"),
    ),
    Mutant(
        "init-residual-scale",
        "what writes to the residual stream starts at 0.02",
        "model.initial:residual_std",
        "return STD / math.sqrt(2 * layers)",
        "return STD",
        check("0", "initial values"),
    ),
    Mutant(
        "init-residual-layers",
        "the residual scale counts layers, not branches",
        "model.initial:residual_std",
        "math.sqrt(2 * layers)",
        "math.sqrt(layers)",
        check("0", "initial values"),
    ),
    Mutant(
        "init-running-stream",
        "values depend on which matrices came before",
        "model.initial:initialise",
        "            seed, salt, matrix.name, shape[::-1] if matrix.transposed else shape\n",
        "            seed,\n"
        "            salt,\n"
        "            f'{matrix.name} {len(covered)}',\n"
        "            shape[::-1] if matrix.transposed else shape,\n",
        check("0,8", "shared initial values"),
    ),
    Mutant(
        "init-biases",
        "biases start away from zero",
        "model.initial:initialise",
        "parameter.zero_()",
        "parameter.fill_(0.01)",
        check("0", "initial values"),
    ),
]

SECTIONS = {
    "From block to block": CONTEXTS,
    "Cross-token MLP, latents, activations": CROSS_TOKEN,
    "The network": NETWORK,
    "Initial values": START,
}
