"""Tokens per second of a decode, by the reference and by our kernels in turns.

Both read the same prompt and then the same tokens, one at a time, as `make generate`
does: fp32 weights (random ones here), one sequence, the argmax read back for every
token, so that a step is as slow as a user sees it.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from gpt2.model.gpt import GPT
from gpt2.model.initial import initialise
from gpt2.model.mixers.attention.decoder import decode_obstacle
from gpt2.model.values import Cache
from gpt2.settings.run import ModelSettings
from gpt2.training import device

DECODERS = ("reference", "triton")
WARMUP = 8


def measure(
    wanted: Sequence[tuple[str, ModelSettings]],
    kind: str,
    prompt: int,
    tokens: int,
    rounds: int,
    command: str,
    say: Callable[[str], None],
) -> dict:
    """A record: a row per model and decoder, each the median of `rounds` rounds of
    `tokens` steps after `prompt` tokens. `far`: the largest difference of a logit
    from the reference's over the largest logit. A decoder that cannot serve has the
    reason instead. say hears of every model before it is timed.
    """
    rows = []
    for i, (name, settings) in enumerate(wanted, 1):
        say(f"{i} of {len(wanted)}: {name}")
        torch.manual_seed(1)
        text_1T = torch.randint(0, settings.vocab_size, (1, prompt + tokens))
        rows += _raced(name, settings, text_1T.to(kind), kind, prompt, rounds)
    return {
        "schema": 1,
        "command": command,
        "device": device.describe(kind).as_dict(),
        "torch": torch.__version__,
        "prompt": prompt,
        "tokens": tokens,
        "rows": rows,
    }


def _raced(
    name: str,
    settings: ModelSettings,
    text_1T: torch.Tensor,
    kind: str,
    prompt: int,
    rounds: int,
) -> list[dict]:
    """The rows of one model."""
    obstacle = decode_obstacle(settings, kind)
    decoders = DECODERS[:1] if obstacle else DECODERS
    models = {decoder: _model(settings, decoder, kind) for decoder in decoders}
    speeds: dict[str, list[float]] = {decoder: [] for decoder in decoders}
    logits = {}
    for model in models.values():
        _steps(model, text_1T[:, : prompt + WARMUP], prompt)
    for _ in range(rounds):
        for decoder, model in models.items():
            seconds, logits[decoder] = _steps(model, text_1T, prompt)
            speeds[decoder].append((text_1T.shape[1] - prompt) / seconds)
    rows, right = [], logits["reference"]
    for decoder in decoders:
        far = (logits[decoder] - right).abs().max() / right.abs().max()
        row = {"name": name, "decoder": decoder, "far": far.item()}
        row["tokens_per_s"] = statistics.median(speeds[decoder])
        rows.append({**row, "tokens_per_s_rounds": speeds[decoder]})
    if obstacle:
        rows.append({"name": name, "decoder": "triton", "obstacle": obstacle})
    return rows


def _model(settings: ModelSettings, decoder: str, kind: str) -> GPT:
    model = GPT(settings, decoder)
    initialise(model, 1)
    return model.to(kind).eval()


def _steps(
    model: GPT, text_1T: torch.Tensor, prompt: int
) -> tuple[float, torch.Tensor]:
    """(seconds of the steps after the prompt, their last logits)."""
    cache: Cache | None
    _, cache = model.decode(text_1T[:, :prompt])
    device.synchronize(text_1T.device.type)
    began = time.perf_counter()
    for t in range(prompt, text_1T.shape[1]):
        logits_11V, cache = model.decode(text_1T[:, t : t + 1], cache)
        logits_11V.argmax().item()
    return time.perf_counter() - began, logits_11V


def table(record: dict) -> str:
    """The record as Markdown."""
    lines = [
        f"# Decoding, {record['device']['name']}",
        "",
        f"`{record['command']}`: {record['tokens']} tokens after a prompt of "
        f"{record['prompt']}, torch {record['torch']}.",
        "",
        "| | decoder | tokens/s | x reference | far |",
        "|---|---|---:|---:|---:|",
    ]
    for row in record["rows"]:
        if "obstacle" in row:
            why = f"cannot {row['obstacle']}"
            lines.append(f"| {row['name']} | {row['decoder']} | {why} | | |")
            continue
        if row["decoder"] == "reference":
            plain = row["tokens_per_s"]
        lines.append(
            f"| {row['name']} | {row['decoder']} | {row['tokens_per_s']:.1f} "
            f"| {row['tokens_per_s'] / plain:.2f} | {row['far']:.1e} |"
        )
    return "\n".join(lines) + "\n"
