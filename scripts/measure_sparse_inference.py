#!/usr/bin/env python3
"""Latency and memory of a pruned network, dense against 2:4 semi-structured.

measure_sparse_inference.py RUN_DIR --device cuda --dtype bf16 --batch 8

RUN_DIR: results/STUDY/STEP/seed-K/HASH of a finished run that kept its weights
(CONFIG_SAVE_MODEL=y). Says plainly when nothing is saved.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, one_of, whole  # noqa: E402

DTYPES = ("fp32", "fp16", "bf16")


def main(arguments: list[str]) -> int:
    """Measure, print, write the JSON; 1 when the run has no weights."""
    parser = Parser(__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument(
        "--device", type=one_of(("auto", "cpu", "cuda")), default="auto"
    )
    parser.add_argument("--dtype", type=one_of(DTYPES), default="bf16")
    parser.add_argument("--batch", type=whole(1), default=8, help="sequences (8)")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    options = parser.parse_args(arguments)
    path = options.run_dir / "checkpoint" / "model.pt"
    if not (options.run_dir / "config.py").exists():
        parser.error(
            f"{options.run_dir}: not a run's directory, config.py is not there"
        )
    if not path.exists():
        why = f"error: {path} does not exist: train with CONFIG_SAVE_MODEL=y"
        print(why, file=sys.stderr)
        return 1
    from gpt2.settings.run import run_settings
    from kconf import config_py
    from records import atomic, history

    with entry.importing():
        import torch

        from gpt2.measure.sparse import measure
        from gpt2.training.device import DeviceError
    values = config_py.read(options.run_dir / "config.py").values
    settings = run_settings(history.completed(values))
    saved = torch.load(path, map_location="cpu", weights_only=True)
    how = options.device, options.dtype, options.batch
    with entry.refusing(DeviceError):
        found = measure(settings, saved["model"], *how)
    print(
        f"device: {found['device']['name']}, torch {found['torch']}, {found['dtype']}"
    )
    print(
        f"sparsity {found['sparsity']:.1%}; {found['two_of_four']} of "
        f"{found['matrices']} matrices are 2:4"
    )
    size = found["dense_bytes"] / 2**20
    print(f"dense: {found['dense_ms']:.2f} ms, weights {size:.1f} MiB")
    if "sparse_ms" in found:
        size = found["sparse_bytes"] / 2**20
        print(
            f"2:4 ({found['backend']}): {found['sparse_ms']:.2f} ms, weights "
            f"{size:.1f} MiB, logits within {found['error']:.1e} of dense"
        )
    print(found["verdict"])
    if options.json:
        atomic.write_json(options.json, found)
    return 0


if __name__ == "__main__":
    entry.run(main)
