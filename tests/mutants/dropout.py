"""Mutants of dropout: each place, its rate, its rest."""

from tests.mutants.mutant import Mutant, check

EMBED = "F.dropout(x_BnE, self.settings.dropout, self.training)"
DROP = "F.dropout(x_BnE, self.dropout, self.training)"
SDPA = "dropout_p=self.dropout if self.training else 0.0"
MIXED = "mixed(F.dropout(p_BHnS, self.dropout, self.training))"

PLACES = [
    Mutant(
        "embedding-undropped",
        "what the embedding gives is not dropped",
        "gpt:GPT.embed",
        f"return {EMBED}",
        "return x_BnE",
        check("0", "dropout"),
    ),
    Mutant(
        "positions-undropped",
        "the token embedding is dropped before the position is added",
        "gpt:GPT.embed",
        "x_BnE = self.wte(tokens_Bn)\n",
        "x_BnE = F.dropout(self.wte(tokens_Bn), self.settings.dropout, self.training)\n",
        check("0", "dropout"),
    ),
    Mutant(
        "embedding-dropped-in-evaluation",
        "what the embedding gives is dropped in evaluation too",
        "gpt:GPT.embed",
        EMBED,
        "F.dropout(x_BnE, self.settings.dropout)",
        check("0", "dropout"),
    ),
    Mutant(
        "attention-branch-undropped",
        "what attention adds is not dropped",
        "block:Block.forward",
        "added(self.norm2, x_BnE, self._drop(y_BnE))",
        "added(self.norm2, x_BnE, y_BnE)",
        check("0", "dropout"),
    ),
    Mutant(
        "mlp-branch-undropped",
        "what the MLP adds is not dropped",
        "block:Block.forward",
        "return x_BnE, self._drop(y_BnE), context",
        "return x_BnE, y_BnE, context",
        check("0", "dropout"),
    ),
    Mutant(
        "stream-dropped",
        "the whole stream is dropped, not what a branch adds",
        "block:Block.forward",
        "return x_BnE, self._drop(y_BnE), context",
        "return self._drop(x_BnE), self._drop(y_BnE), context",
        check("9", "dropout"),
    ),
    Mutant(
        "sdpa-undropped",
        "sdpa drops no probability",
        "attention.attention:Attention._train",
        "self.dropout if self.training else 0.0",
        "0.0",
        check("0", "dropout"),
    ),
    Mutant(
        "sdpa-drops-half",
        "sdpa drops at half the rate",
        "attention.attention:Attention._train",
        "self.dropout if self.training else 0.0",
        "self.dropout / 2 if self.training else 0.0",
        check("0", "dropout"),
    ),
    Mutant(
        "reference-undropped",
        "the reference drops no probability",
        "cores:finish",
        "mixed(dropout(p_BHnS))",
        "mixed(p_BHnS)",
        check("5", "dropout"),
    ),
    Mutant(
        "reference-rests-never",
        "the reference drops in evaluation too",
        "attention.attention:Attention._dropout",
        "F.dropout(p_BHnS, self.dropout, self.training)",
        "F.dropout(p_BHnS, self.dropout)",
        check("0", "dropout"),
    ),
    Mutant(
        "statistic-of-the-dropped",
        "RA-CT looks at probabilities that were dropped",
        "cores:finish",
        "factor_BHn = gate(p_BHnS, mask_nS)",
        "p_BHnS = dropout(p_BHnS)\n        factor_BHn = gate(p_BHnS, mask_nS)",
        check("14", "dropout"),
    ),
    Mutant(
        "routing-of-the-dropped",
        "the MLP's routing reads probabilities that were dropped",
        "cores:finish",
        "    o_BnHD = mixed(dropout(p_BHnS))",
        "    p_BHnS = dropout(p_BHnS)\n    o_BnHD = mixed(p_BHnS)",
        check("0", "dropout", MLP_CROSS_TOKEN="y"),
    ),
    Mutant(
        "kept-units-unscaled",
        "what dropout keeps on a branch is not made larger",
        "block:Block._drop",
        f"return {DROP}",
        f"return {DROP} * (1 - self.dropout if self.training else 1)",
        check("0", "dropout"),
    ),
    Mutant(
        "whole-tokens-dropped",
        "a branch loses whole tokens, not units",
        "block:Block._drop",
        f"return {DROP}",
        "return x_BnE * F.dropout(\n"
        "            torch.ones_like(x_BnE[..., :1]), self.dropout, self.training\n"
        "        )",
        check("0", "dropout"),
    ),
    Mutant(
        "hidden-layer-dropped",
        "the output gate's input is dropped as well",
        "attention.attention:Attention.forward",
        "return self.o(o_BnHD.flatten(2)), given, cache",
        "o_BnHD = self._dropout(o_BnHD)\n        return self.o(o_BnHD.flatten(2)), given, cache",
        check("0", "dropout"),
    ),
]

SECTIONS = {"Dropout": PLACES}
