"""What identifies a network: its counts, initial values, logits, first losses.

    python -P networks.py TREE                one JSON line per configuration
    python -P networks.py TREE NAME …         one JSON line of figures per name

A configuration is a step of a study, an arm of a test matrix, or a defconfig that has
neither: STUDY/STEP. Costs are those of its full size. What has to be computed is that
of a small one: 3 layers (a pattern of mixers and one more), every width / 8, bytes, T = 48, a window and a band of 8, fp32
on the CPU with one thread, masks and SPAM resets within ten steps.

TREE is the checkout whose code is measured, this one or another commit's
(gpt2/measure/commit_comparison.py). So nothing of ours is imported here by its place: a
name is looked for in each place it has had (PLACES).
"""

import hashlib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# The modules that have held a name; the first that has it counts.
PLACES = {
    "GPT": ("gpt2.model.gpt", "gpt2.model"),
    "count": ("gpt2.model.costs", "gpt2.accounting"),
    "execute": ("gpt2.training.cell", "gpt2.run"),
    "initialise": ("gpt2.model.initial", "gpt2.init"),
    "memory_estimate": ("gpt2.training.memory", "gpt2.model.costs", "gpt2.accounting"),
    "meta_model": ("gpt2.model.costs", "gpt2.accounting"),
    "prepare": ("gpt2.data.packing.prepare", "gpt2.data.prepare"),
    "run_settings": ("gpt2.settings.run", "gpt2.settings"),
    "Tree": ("kconf.strict",),
    "Overrides": ("kconf.overrides",),
    "presets": ("kconf.presets",),
    "list_steps": ("kconf.study",),
    "study_dir": ("kconf.study",),
    "resolve_step": ("kconf.study",),
    "read_axes": ("kconf.axes",),
    "generate": ("kconf.arms",),
    "choose": ("kconf.arms",),
    "ConfigError": ("kconf.syntax",),
    "SettingsError": ("kconf.bind",),
    "write_config": ("kconf.config_py",),
}
RENAMED = {"write_config": "write"}

BATCH, CONTEXT, STEPS, SEED = 4, 48, 10, 1
SMALL = {
    "GPT2_SIZE_CUSTOM": "y",
    "GPT2_LAYERS": "3",
    "WIDTH_DIVISOR": "8",
    "GPT2_BLOCK_SIZE": str(CONTEXT),
    "GPT2_VOCAB_SIZE": "257",
    "TOKENIZER_BYTE": "y",
    "DATASET_LOCAL": "y",
    "LOCAL_PATH": "text.txt",
    "VAL_SPLIT_TAIL": "y",
    "VAL_FRACTION": "0.1",
    "GPT2_WARMUP_STEPS": "2",
    "GPT2_MAX_ITERS": str(STEPS),
    "EFFECTIVE_BATCH": str(2 * BATCH),
    "BATCH_SIZE": str(BATCH),
    "GPT2_EVAL_INTERVAL": str(STEPS // 2),
    "GPT2_EVAL_WINDOWS": "8",
    "LOG_INTERVAL": "1",
    "DEVICE_CPU": "y",
    "CPU_THREADS": "1",
    "DTYPE_FP32": "y",
    "GPT2_COMPILE": "n",
}
# The same where a configuration has the symbol.
WHERE_IT_APPLIES = {
    "GPT2_FINAL_EVAL_WINDOWS": "0",
    "LENGTH_DIVISOR": "16",
    "WINDOW": "8",
    "RA_BAND": "8",
    "PRUNING_FREQUENCY": "1",
    "SPAM_WARMUP": "2",
    "SPAM_INTERVAL": "4",
    "LOG_ATTENTION_STATS": "y",
}
FACTS = (
    "parameters",
    "parameters_no_embedding",
    "attn_mlp_ratio",
    "network_ratio",
    "flops_per_token",
    "flops_per_token_causal",
)
# What computes attention on a CPU, where the network lets it.
IMPLEMENTATIONS = ("reference", "sdpa")


def find(name: str) -> Any:
    """What has this name, wherever it is in the tree that is imported. Raises
    LookupError where no place has it.
    """
    for place in PLACES[name]:
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if not f"{place}.".startswith(f"{error.name}."):
                raise
            continue
        if hasattr(module, RENAMED.get(name, name)):
            return getattr(module, RENAMED.get(name, name))
    raise LookupError(f"{name} is in none of {', '.join(PLACES[name])}: say where")


@dataclass(frozen=True)
class Configuration:
    """full, small: RunSettings. values(**symbols): the small one's merged symbols,
    with these changed.
    """

    name: str
    full: Any
    small: Any
    values: Callable[..., dict[str, Any]]
    operational: Any

    @property
    def network(self) -> str:
        """Equal for two configurations of one network."""
        return repr((self.full.model, self.small.model, self.full.train.init_salt))

    @property
    def training(self) -> str:
        """Equal where the network, its optimizer and its pruning are."""
        return repr((self.network, self.full.optim, self.full.pruning))


def configurations(root: Path) -> Iterator[Configuration]:
    """Every configuration of defconfigs/; raises ConfigError, SettingsError."""
    tree = find("Tree")(root)
    for study, base in find("presets")(root)[0].items():
        for step in _steps(root, tree, study, base):
            yield _configuration(tree, study, base, step)


def _steps(root: Path, tree: Any, study: str, base: Path) -> list[Any]:
    """Steps or arms over a base; [None] for the base alone."""
    if find("study_dir")(root, study).is_dir():
        return list(find("list_steps")(root, study))
    values = tree.resolve([base]).values
    if not values["TEST_MATRIX_MODE"]:
        return [None]
    nothing = find("Overrides")({})
    arms = find("generate")(tree, (base,), nothing, find("read_axes")(values)).arms
    return find("choose")(arms, values["MATRIX_ARMS"])


def _configuration(tree: Any, study: str, base: Path, step: Any) -> Configuration:
    stages = [base] if step is None else [base, step.stage]

    def small(**symbols: str) -> dict[str, Any]:
        merged = tree.resolve([*stages, find("Overrides")(SMALL)])
        more = {k: v for k, v in WHERE_IT_APPLIES.items() if k in merged.visible}
        pattern = merged.values.get("MIXER_LAYERS", "").split()
        if pattern:  # every mixer, and the seam of the pattern
            more["GPT2_LAYERS"] = str(len(pattern) + 1)
        return tree.resolve([*stages, find("Overrides")({**SMALL, **more, **symbols})])

    run_settings = find("run_settings")
    return Configuration(
        f"{study}/{'base' if step is None else step.id}",
        run_settings(tree.resolve(stages).values),
        run_settings(small().values),
        lambda **symbols: small(**symbols).values,
        tree.operational,
    )


def counted(settings: Any) -> dict[str, Any]:
    """Costs of a configuration: FACTS; the cache in values per token of the context
    and per sequence, summed over layers; bytes of training with its micro-batch; and
    the hash of the names and shapes of its state_dict.
    """
    model = find("meta_model")(settings.model)
    facts = find("count")(model).as_dict()
    cache = {}
    for name in ("cache_per_token", "cache_constant"):
        per_layer = facts[f"{name}_layer"]  # None where layers differ
        whole = facts[name] if per_layer is None else per_layer * facts["layers"]
        cache[name] = whole
    micro = settings.train.micro_batch or 1
    state = model.state_dict().items()
    shapes = [f"{name} {tuple(value.shape)}" for name, value in sorted(state)]
    others = {
        "memory_estimate": find("memory_estimate")(settings, micro),
        "state_dict": hashlib.sha256("\n".join(shapes).encode()).hexdigest(),
    }
    return {name: facts[name] for name in FACTS} | cache | others


def built(settings: Any) -> tuple[torch.nn.Module, dict[str, str]]:
    """The network with its initial values, and their hash with their names."""
    model = find("GPT")(settings.model)
    find("initialise")(model, SEED, settings.train.init_salt)
    state = sorted(model.state_dict().items())
    names = "\n".join(name for name, _ in state)
    values = _sha256(*(value for _, value in state))
    both = hashlib.sha256(f"{names}\n{values}".encode()).hexdigest()
    return model, {"initial_values": both}


def computed(settings: Any) -> dict[str, str]:
    """Hashes of what the network makes of a fixed batch: at its initial values; away
    from them, where gates act, also in bf16, decoded, with documents, and gradients.
    """
    model, _ = built(settings)
    stream = torch.Generator().manual_seed(0)
    rows_BT = torch.randint(0, 257, (BATCH, CONTEXT + 1), generator=stream)
    x_BT, y_BT = rows_BT[:, :-1], rows_BT[:, 1:]
    places_T = torch.arange(CONTEXT, dtype=torch.int32)
    starts_BT = (places_T // 20 * 20).expand(BATCH, -1)
    with torch.no_grad():
        found = {"logits": _sha256(model(x_BT))}
        for _, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=stream)
            parameter.add_(0.05 * noise)
        found["logits_away"] = _sha256(model(x_BT))
        found["logits_documents"] = _sha256(model(x_BT, None, starts_BT))
        with torch.autocast("cpu", torch.bfloat16):
            found["logits_bf16"] = _sha256(model(x_BT))
        logits, cache = model.decode(x_BT[:, :20])
        steps = [logits]
        for t in range(20, 26):
            logits, cache = model.decode(x_BT[:, t : t + 1], cache)
            steps.append(logits)
        found["logits_decoded"] = _sha256(*steps)
    model(x_BT, y_BT).backward()
    named = sorted(model.named_parameters())
    return found | {"gradients": _sha256(*(p.grad for _, p in named))}


def by_implementation(configuration: Configuration) -> dict[str, str]:
    """Hashes of the logits by every implementation of attention, or "refused"."""
    found, refusals = {}, (find("ConfigError"), find("SettingsError"))
    for name in IMPLEMENTATIONS:
        try:
            values = configuration.values(**{f"ATTENTION_IMPL_{name.upper()}": "y"})
            settings = find("run_settings")(values)
        except refusals:
            found[f"logits_{name}"] = "refused"
            continue
        found[f"logits_{name}"] = computed(settings)["logits_away"]
    return found


def trained(configuration: Configuration, folder: Path) -> dict[str, Any]:
    """Ten steps as a real cell: losses, norms of gradients, sparsities, evaluations,
    statistics of heads, weights at the end. Raises RuntimeError where the cell fails.
    """
    text, corpus = folder / "text.txt", folder / "corpus"
    values = configuration.values(LOCAL_PATH=str(text))
    if not corpus.exists():
        words = ("quick", "lazy", "brown")
        lines = [f"{i}: {words[i % 3]} {i * i}.\n" for i in range(800)]
        text.write_text("".join(lines), encoding="utf-8")
        data = find("run_settings")(values).data
        find("prepare")(data, corpus, say=lambda line: None)
    cell = Path(tempfile.mkdtemp(dir=folder))
    find("write_config")(cell / "config.py", values, configuration.operational)
    run = {"schema": 1, "cell": {"hash": "0" * 64}}
    (cell / "run.json").write_text(json.dumps(run), encoding="utf-8")
    if find("execute")(cell, corpus) != 0:
        raise RuntimeError(f"{configuration.name}: the cell failed, see above")
    lines = (cell / "metrics.jsonl").read_bytes().splitlines()
    rows = [json.loads(line) for line in lines]
    summary = json.loads((cell / "summary.json").read_bytes())
    train = [row for row in rows if row["kind"] == "train"]
    return {
        "losses": [row["loss"] for row in train],
        "gradient_norms": [row["grad_norm"] for row in train],
        "sparsities": [row.get("sparsity") for row in train],
        "evaluations": [row["loss"] for row in rows if row["kind"] == "eval"],
        "statistics": [row for row in rows if row["kind"] == "attention"],
        "trained_weights": summary["model_sha256"],
    }


def _sha256(*tensors: torch.Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def main(root: Path, names: list[str]) -> None:
    """List the configurations of the tree, or measure the named ones. Raises
    RuntimeError where another tree than this one is imported.
    """
    package = Path(importlib.import_module("gpt2").__path__[0])
    if package.parent.resolve() != root.resolve():
        raise RuntimeError(f"{package} is imported, not that of {root}")
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a cell prints is not an answer
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for one in configurations(root):
            line = {"name": one.name, "training": one.training}
            if names and one.name not in names:
                continue
            if names:
                line = {"name": one.name, **counted(one.full), **built(one.small)[1]}
                line |= computed(one.small) | by_implementation(one)
                line |= trained(one, Path(folder))
            print(json.dumps(line), file=out, flush=True)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main(Path(sys.argv[1]), sys.argv[2:])
