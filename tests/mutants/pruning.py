"""Mutants of pruning: criteria, choice, schedule, masks."""

from tests.mutants.mutant import Check, Mutant, Test, check

CHOICE_TESTS = "tests/kernels/test_pruning.py"
BY_HAND = Test(f"{CHOICE_TESTS}::test_the_kernel_by_hand")


def state(criterion: str, **symbols: str) -> Check:
    """The sparsity's proof of a model pruned from AdamW's state."""
    chosen = {"PRUNING_STATE": "y", f"CRITERION_{criterion}": "y", **symbols}
    return check("0", "reaches its sparsity", **chosen)


def sparse(promise: str = "reaches its sparsity", **symbols: str) -> Check:
    """A proof of a model that prunes as the symbols say."""
    return check("0", promise, **symbols)


CRITERIA = [
    Mutant(
        "magnitude-signed",
        "magnitude is the weight with its sign",
        "pruning.reference",
        '"magnitude": lambda w, m, v: w.abs(),',
        '"magnitude": lambda w, m, v: w,',
        check("1", "expectations"),
    ),
    Mutant(
        "hybrid-without-v",
        "hybrid is not divided by the root of the second moment",
        "pruning.reference",
        "(w * m).abs() * w.abs() / (v.sqrt() + EPS)",
        "(w * m).abs() * w.abs()",
        state("HYBRID"),
    ),
    Mutant(
        "gradient-without-root",
        "gradient_magnitude takes |m| for its root",
        "pruning.reference",
        "w.abs() * m.abs().sqrt(),",
        "w.abs() * m.abs(),",
        state("GRADIENT_MAGNITUDE"),
    ),
    Mutant(
        "movement-state-sign",
        "from the state, what moves away from zero goes",
        "pruning.reference",
        "-w.sign() * m / (v.sqrt() + EPS)",
        "w.sign() * m / (v.sqrt() + EPS)",
        state("MOVEMENT"),
    ),
    Mutant(
        "coherence-squared",
        "coherence's last factor is not a root",
        "pruning.reference",
        "(m * m / (v + EPS)).sqrt()",
        "(m * m / (v + EPS))",
        state("COHERENCE"),
    ),
    Mutant(
        "variance-square-root",
        "variance takes the square root of v, not the fourth root",
        "pruning.reference",
        "w.abs() * v.sqrt().sqrt()",
        "w.abs() * v.sqrt()",
        state("VARIANCE"),
    ),
    Mutant(
        "layers-alike",
        "layer_adaptive takes as much from every block",
        "layers",
        "FIRST, LAST = 0.7, 1.3",
        "FIRST, LAST = 1.0, 1.0",
        state("LAYER_ADAPTIVE"),
    ),
    Mutant(
        "layers-not-redistributed",
        "what a full block cannot take goes anywhere, not by the factors",
        "layers:sparsities",
        "over = {i for i in free if scale * factors[i] > 1}",
        "over = set()",
        state("LAYER_ADAPTIVE", PRUNING_SPARSITY="0.9"),
    ),
    Mutant(
        "movement-sign",
        "external movement adds w · g",
        "pruner:Pruner.before_step",
        "gradients, value=-1.0)",
        "gradients, value=1.0)",
        sparse(PRUNING_MOVEMENT="y"),
    ),
    Mutant(
        "movement-of-one-step",
        "external movement forgets the steps before",
        "pruner:Pruner.before_step",
        "            moved = list(self.scores.values())\n",
        "            moved = list(self.scores.values())\n"
        "            torch._foreach_zero_(moved)\n",
        sparse(PRUNING_MOVEMENT="y"),
    ),
    Mutant(
        "movement-scores-not-saved",
        "a checkpoint leaves movement's scores out",
        "pruner:Pruner.state",
        'return {"masks": self.masks, "scores": self.scores}',
        'return {"masks": self.masks}',
        sparse("save and resume", PRUNING_MOVEMENT="y"),
    ),
    Mutant(
        "movement-scores-not-loaded",
        "a resumed run begins with movement's scores at zero",
        "pruner:Pruner.load",
        "                value.copy_(state[kind][name])\n",
        '                if kind == "masks":\n'
        "                    value.copy_(state[kind][name])\n",
        sparse("save and resume", PRUNING_MOVEMENT="y"),
    ),
]

CHOSEN = [
    Mutant(
        "pruned-are-ranked",
        "pruned weights are ranked with the live ones",
        "pruning.reference:ranked",
        "key = key.masked_fill(mask, NOT_RANKED)",
        "key = key.clone()",
        check("1", "expectations"),
    ),
    Mutant(
        "highest-go",
        "the weights that score highest go",
        "pruning.reference:prune_lowest.keys",
        "yield ranked(ordered(score(w, m, v)), mask, pattern)",
        "yield ranked(ordered(-score(w, m, v)), mask, pattern)",
        check("1", "expectations"),
    ),
    Mutant(
        "ties-last",
        "of equal weights those of the highest index go",
        "pruning.reference:prune_lowest",
        ".flatten().nonzero().flatten()[:left]",
        ".flatten().nonzero().flatten().flip(0)[:left]",
        Test(f"{CHOICE_TESTS}::test_many_weights_in_many_updates[tied-1000-reference]"),
    ),
    Mutant(
        "ties-all",
        "every matrix loses as many of the ties",
        "pruning.reference:prune_lowest",
        "        left -= len(ties)\n",
        "",
        Test(f"{CHOICE_TESTS}::test_many_weights_in_many_updates[tied-1000-reference]"),
    ),
    Mutant(
        "negatives-backwards",
        "negative scores are in reverse order",
        "pruning.reference:ordered",
        "return bits ^ ((bits >> 31) & 0x7FFFFFFF)",
        "return bits",
        sparse(PRUNING_MOVEMENT="y"),
    ),
    Mutant(
        "three-of-four",
        "the pattern 2:4 takes three of four",
        "pruning.reference:ranked",
        "place >= 2 - pruned",
        "place >= 3 - pruned",
        sparse(PRUNING_MAGNITUDE="y", PATTERN_2_4="y"),
    ),
    Mutant(
        "four-again",
        "the pattern 2:4 forgets which of the four went before",
        "pruning.reference:ranked",
        "place >= 2 - pruned",
        "place >= 2",
        sparse(PRUNING_MAGNITUDE="y", PATTERN_2_4="y"),
    ),
    Mutant(
        "kernel-ranks-pruned",
        "on a GPU, pruned weights are ranked",
        "pruning.kernel:_keys",
        "live = inside & (pruned == 0)",
        "live = inside",
        BY_HAND,
    ),
    Mutant(
        "kernel-ties-last",
        "on a GPU, of equal weights those of the highest index go",
        "pruning.kernel:_mark",
        "(index <= tl.load(last))",
        "(index > tl.load(last))",
        BY_HAND,
    ),
]

MASKS = [
    Mutant(
        "cubic-inverted",
        "the cubic schedule runs backwards",
        "pruning.schedule:cubic",
        "final + (INITIAL - final) * (1 - p) ** 3",
        "INITIAL + (final - INITIAL) * p**3",
        check("1", "expectations"),
    ),
    Mutant(
        "cubic-linear",
        "the schedule is linear",
        "pruning.schedule:cubic",
        "* (1 - p) ** 3",
        "* (1 - p)",
        check("1", "expectations"),
    ),
    Mutant(
        "start-ignored",
        "CONFIG_PRUNING_START does not arrive",
        "pruning.schedule:progress",
        "(spent - start) / (end - start)",
        "spent / end",
        check("1", "expectations"),
    ),
    Mutant(
        "embedding-pruned",
        "embeddings are pruned too",
        "pruner:covered",
        'if name.startswith("h.") and parameter.dim() == 2',
        "if parameter.dim() == 2",
        check("1", "expectations"),
    ),
    Mutant(
        "weights-of-pruned",
        "masks are kept but not applied to the weights",
        "pruner:Pruner._zeroed",
        "return [self._values(), *of_optimizer]",
        "return of_optimizer",
        check("1", "expectations"),
    ),
    Mutant(
        "state-of-pruned",
        "the optimizer state of pruned weights is kept",
        "pruner:Pruner._zeroed",
        "return [self._values(), *of_optimizer]",
        "return [self._values()]",
        check("1", "expectations"),
    ),
    Mutant(
        "momentum-of-pruned",
        "the momentum of pruned weights is kept, moments are not",
        "pruner:Pruner._zeroed",
        "if torch.is_tensor(value) and value.dim() == 2",
        'if name.startswith("exp_avg")',
        sparse(OPTIMIZER_SGD="y", PRUNING_MAGNITUDE="y"),
    ),
    Mutant(
        "amsgrad-of-pruned",
        "the largest second moment of pruned weights is kept",
        "pruner:Pruner._zeroed",
        "if torch.is_tensor(value) and value.dim() == 2",
        'if name.startswith("exp_avg")',
        sparse(OPTIMIZER_ADAMWADV="y", PRUNING_MAGNITUDE="y"),
    ),
    Mutant(
        "muon-moves-pruned",
        "Muon moves pruned weights between updates",
        "pruner:Pruner.after_step",
        "elif self.pruned and not facts(self.optim).elementwise:",
        "elif False:",
        sparse(OPTIMIZER_MUON="y", PRUNING_MAGNITUDE="y"),
    ),
    Mutant(
        "gradients-of-pruned",
        "gradients of pruned weights are kept",
        "pruner:Pruner.before_step",
        "        if self.pruned:\n",
        "        if False:\n",
        check("1", "expectations"),
    ),
    Mutant(
        "clip-before-masks",
        "gradients of pruned weights have a part in the norm that is clipped",
        "update:Update.step",
        "        if self.pruner is not None:\n"
        "            self.pruner.before_step()\n"
        "        norm = self.distribution.gradient_norm(self.params)\n",
        "        norm = self.distribution.gradient_norm(self.params)\n"
        "        if self.pruner is not None:\n"
        "            self.pruner.before_step()\n",
        Test(
            "tests/gpt2/pruning/test_pruning.py::"
            "test_the_clip_sees_the_gradients_of_live_weights_alone"
        ),
    ),
    Mutant(
        "update-while-settling",
        "masks are updated while a SPAM reset settles",
        "pruner:Pruner.due",
        "if (p < 1 and steps % frequency) or self.optim.settling(steps):",
        "if p < 1 and steps % frequency:",
        sparse(
            PRUNING_MAGNITUDE="y",
            OPTIMIZER_ADAMWSPAM="y",
            SPAM_INTERVAL="8",
            SPAM_WARMUP="3",
        ),
    ),
    Mutant(
        "settling-one-late",
        "a SPAM reset settles one step later than it happens",
        "optim:OptimSettings.settling",
        "return (steps - 1) % self.spam_interval < self.spam_warmup",
        "return steps % self.spam_interval < self.spam_warmup",
        Test("tests/gpt2/optim/test_spam.py::test_settling_follows_the_real_resets"),
    ),
    Mutant(
        "checkpoint-without-masks",
        "a resumed run has no masks",
        "checkpoint:_load_newest",
        'pruner.load(state["pruning"])',
        "pass",
        check("1", "save and resume"),
    ),
    Mutant(
        "resume-forgets-sparsity",
        "a resumed run has its masks, but counts no pruned weight",
        "pruner:Pruner.load",
        "self.pruned = sum(int(mask.sum()) for mask in self.masks.values())",
        "self.pruned = 0",
        check("1", "save and resume"),
    ),
]

SECTIONS = {
    "Pruning: criteria": CRITERIA,
    "Pruning: the choice": CHOSEN,
    "Pruning: schedule and masks": MASKS,
}
