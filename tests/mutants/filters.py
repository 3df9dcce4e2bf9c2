"""Mutants of laws of initial values, and of what filters of a convolution are not."""

from tests.mutants.mutant import Mutant, Test, check

MIXERS = "gpt2-mixer-ablation"
FILTERS = "tests/gpt2/model/test_filters.py"
RECURRENT = "tests/gpt2/model/test_recurrent.py"

FILTER_MUTANTS = [
    Mutant(
        "filters-decay",
        "weight decay and Muon act on filters",
        "optim.optimizer:decayed_names",
        'name for name in products(model) if name.startswith("h.")',
        "name for name, p in model.named_parameters()\n"
        '        if name.startswith("h.") and p.dim() >= 2',
        check("3", "update and decay", MIXERS),
    ),
    Mutant(
        "filters-pruned",
        "filters are pruned",
        "pruning.pruner:covered",
        "products(model).items()",
        "model.named_parameters()",
        Test(f"{FILTERS}::test_they_are_not_pruned"),
    ),
    Mutant(
        "filters-in-bf16",
        "filters are read in 16 bits",
        "model.precision:_low",
        "set(products(model))",
        "{name for name, p in model.named_parameters() if p.dim() > 1}",
        Test(f"{FILTERS}::test_they_are_read_in_fp32"),
    ),
    Mutant(
        "filters-in-6-n",
        "filters are counted as matrices",
        "model.costs:count",
        "total - positions - _filters(model)",
        "total - positions",
        check("3", "expectations", MIXERS),
    ),
    Mutant(
        "laws-unfilled",
        "what a law draws never arrives",
        "model.initial:InitialLaw.fill",
        "self.parameter.copy_(torch.from_numpy(values))",
        "self.parameter.copy_(0 * torch.from_numpy(values))",
        check("3", "initial values", MIXERS),
    ),
    Mutant(
        "laws-of-one-name",
        "what a law draws does not depend on the name",
        "model.initial:InitialLaw.fill",
        "self.name, tuple",
        '"", tuple',
        check("3", "initial values", MIXERS),
    ),
    Mutant(
        "laws-of-one-rate",
        "every head starts to forget at the same rate",
        "model.quantiles:_log_rate",
        "(RATES - slowest) * u",
        "(RATES - slowest) * (0 * u + 0.5)",
        check("3", "initial values", MIXERS),
    ),
    Mutant(
        "laws-of-the-rate-itself",
        "A starts at U(1, 16), not at its logarithm",
        "model.quantiles:_log_rate",
        "np.log(slowest + (RATES - slowest) * u)",
        "slowest + (RATES - slowest) * u",
        check("3", "initial values", MIXERS),
    ),
    Mutant(
        "laws-step-as-offset",
        "the offset starts at the step, not where softplus gives it",
        "model.quantiles:step_offset",
        "step + np.log(-np.expm1(-step))",
        "step",
        check("3", "initial values", MIXERS),
    ),
    Mutant(
        "laws-wide-taps",
        "filters start at U(±1)",
        "model.quantiles:taps",
        "u - 0.5",
        "2 * u - 1",
        check("3", "initial values", MIXERS),
    ),
    Mutant(
        "laws-after-biases",
        "a parameter called bias starts at 0 though a law says more",
        "model.initial:initialise",
        " and id(parameter) not in covered",
        "",
        Test(f"{FILTERS}::test_a_law_of_what_is_called_bias_is_kept"),
    ),
    Mutant(
        "recurrent-span-of-one",
        "the span counts the last token alone",
        "mixers.decays:decay_statistics",
        "starts_BT, log_decay)",
        "starts_BT, log_decay - 99)",
        Test(f"{RECURRENT}::test_statistics_of_a_decay_by_hand"),
    ),
    Mutant(
        "retnet-keys-unrotated",
        "queries alone are rotated",
        "model.mixers.retnet:RetNet.strands",
        "q, k = (rotate_at(each, place, self.base) for each in (q, k))",
        "q = rotate_at(q, place, self.base)",
        check("2", "formulas", MIXERS),
    ),
    Mutant(
        "retnet-base-fixed",
        "CONFIG_ROPE_BASE does not arrive",
        "model.mixers.retnet:RetNet.__init__",
        "settings.rope_base or BASE",
        "BASE",
        Test(f"{RECURRENT}::test_a_rotation_has_the_base_of_the_positions"),
    ),
    Mutant(
        "mamba2-gate-twice",
        "an output gate is taken where it does not fit",
        "settings.mixers.mamba2:Mamba2Settings.require",
        'model.output_gate != "none"',
        "False",
        Test(f"{RECURRENT}::test_what_is_refused"),
    ),
]

SECTIONS = {"Filters, and laws of initial values": FILTER_MUTANTS}
