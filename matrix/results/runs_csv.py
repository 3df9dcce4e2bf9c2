"""runs.csv: every run directory of a study on one line, unrounded."""

from matrix.results import inert_csv
from matrix.results.rows import LOSS
from matrix.results.runs import Study

COLUMNS = (
    ("final_loss", "summary.final_eval.loss"),
    ("final_bits_per_byte", "summary.final_eval.bits_per_byte"),
    ("final_perplexity", "summary.final_eval.perplexity"),
    ("steps", "summary.step"),
    ("tokens", "summary.tokens"),
    ("stopped_by", "summary.stopped_by"),
    ("attempts", "summary.attempts"),
    ("parameters", "summary.facts.parameters"),
    ("parameters_no_embedding", "summary.facts.parameters_no_embedding"),
    ("flops_per_token", "summary.facts.flops_per_token"),
    ("flops_per_token_causal", "summary.facts.flops_per_token_causal"),
    ("cache_per_token_layer", "summary.facts.cache_per_token_layer"),
    ("cache_constant_layer", "summary.facts.cache_constant_layer"),
    ("attn_mlp_ratio", "summary.facts.attn_mlp_ratio"),
    ("network_ratio", "summary.facts.network_ratio"),
    ("tokens_per_step", "summary.facts.tokens_per_step"),
    ("effective_batch", "summary.facts.effective_batch"),
    ("context", "config.GPT2_BLOCK_SIZE"),
    ("layers", "config.GPT2_LAYERS"),
    ("max_iters", "summary.facts.max_iters"),
    ("budget", "summary.facts.budget"),
    ("time_limit", "config.GPT2_MAX_TIME"),
    ("eval_windows", "config.GPT2_EVAL_WINDOWS"),
    ("eval_interval", "config.GPT2_EVAL_INTERVAL"),
    ("eval_sha256", "summary.facts.eval_sha256"),
    ("dtype", "summary.facts.dtype"),
    ("compile", "summary.facts.compile"),
    ("tokens_per_s", "summary.tokens_per_s"),
    ("average_step_time", "summary.average_step_time"),
    ("train_time", "summary.train_time"),
    ("eval_time", "summary.eval_time"),
    ("wall_time", "summary.wall_time"),
    ("total_time_all_attempts", "summary.total_time_all_attempts"),
    ("peak_memory_bytes", "summary.peak_memory_bytes"),
    ("sparsity", "summary.sparsity.covered"),
    ("sparsity_of_all", "summary.sparsity.all"),
    ("energy_joules", "energy.joules"),
    ("energy_per_token", "energy.per_token"),
    ("energy_seconds", "energy.seconds"),
    ("energy_remark", "energy.remark"),
    ("device", "summary.device.name"),
    ("driver", "summary.device.driver"),
    ("processor", "run.provenance.cpu"),
    ("ranks", "summary.facts.ranks"),
    ("threads", "summary.threads"),
    ("torch", "summary.torch"),
    ("python", "summary.python"),
    ("stage", "run.cell.stage"),
    ("control", "run.cell.control"),
    ("config_hash", "run.cell.identity.config"),
    ("code_hash", "run.cell.identity.code"),
    ("dataset_sha256", "run.cell.identity.dataset"),
    ("git_commit", "run.provenance.git.commit"),
    ("init_sha256", "summary.facts.init_sha256"),
    ("model_sha256", "summary.model_sha256"),
)
"""Column of runs.csv and where its value stands in the run's records."""


def csv_text(study: Study, last_evals: int) -> str:
    """runs.csv: every run directory of the study, counted or not, unrounded.

    `counted` is "yes", "no" (the cell has no counted run or a newer one) or
    "left out" (another run of the cell counts, or the hash is not planned).
    No cell is a spreadsheet's formula (matrix.results.inert_csv).
    """
    head = ["study", "step", "seed", "run_dir", "reused", "hash", "state", "counted"]
    rows = [[*head, "loss", *(name for name, _ in COLUMNS), "error"]]
    counted = {run.run_dir for run in study.counted.values()}
    left_out = {run.run_dir for run in study.left_out}
    for run in study.runs:
        used = run.run_dir in counted
        word = "yes" if used else "left out" if run.run_dir in left_out else "no"
        loss = run.last(LOSS, last_evals) if used else None
        cells = [study.name, run.step, run.seed, run.run_dir]
        cells += ["yes" if run.reused else "no", run.hash8, run.state]
        values = [run.at(path) for _, path in COLUMNS]
        rows.append([*cells, word, loss, *values, run.why])
    return inert_csv.text(rows)
