#!/usr/bin/env python3
"""`make anchor TEXT=file`: train to a published loss and say whether it is reached.

The numbers are nanoGPT's for its character-level model on tinyshakespeare
(README, "quick start"): 1.88 with 4 layers on a CPU, 1.4697 with 6 layers on a
GPU, the best evaluation of the run. DEVICE=cuda chooses the second.
"""

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, file  # noqa: E402

# defconfig -> (published loss, the most that counts as reached)
ANCHORS = {"anchor-cpu": (1.88, 1.90), "anchor-gpu": (1.4697, 1.48)}


def main(arguments: list[str]) -> int:
    """0 when the loss is reached."""
    from kconf import dotconfig
    from kconf.overrides import Overrides
    from kconf.strict import Tree
    from records.cell import read_cell

    parser = Parser(__doc__)
    parser.add_argument("text", type=file, help="tinyshakespeare.txt")
    text = parser.parse_args(arguments).text
    name = "anchor-gpu" if os.environ.get("DEVICE") == "cuda" else "anchor-cpu"
    published, limit = ANCHORS[name]
    tree = Tree(ROOT)
    path = Overrides({"LOCAL_PATH": str(text.resolve())}, "TEXT")
    resolved = tree.resolve([ROOT / "defconfigs" / name, path])
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / f"{name}.config"
        environment = {**os.environ, "KCONFIG_CONFIG": str(config)}
        dotconfig.write(config, tree, resolved)
        dotconfig.write_python(
            dotconfig.config_paths(ROOT, environment)[1], tree, resolved
        )
        for script in ("scripts/prepare_data.py", "scripts/run_test_matrix.py"):
            if status := entry.delegate([sys.executable, script], ROOT, environment):
                return status
    output = ROOT / (os.environ.get("OUTPUT") or resolved.values["OUTPUT_DIR"])
    cells = (output / name / "single" / "seed-1").glob("*/summary.json")
    newest = max(cells, key=lambda summary: summary.stat().st_mtime).parent
    losses = {row["step"]: row["loss"] for row in read_cell(newest).evals}
    step = min(losses, key=losses.get)
    print(
        f"{name}: best validation loss {losses[step]:.4f} nats/character at step {step}, "
        f"final {losses[max(losses)]:.4f}; published {published}, limit {limit}: "
        + ("reached" if losses[step] <= limit else "NOT reached")
    )
    return 0 if losses[step] <= limit else 1


if __name__ == "__main__":
    entry.run(main)
