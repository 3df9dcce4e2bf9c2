#!/usr/bin/env python3
"""Export a finished run for other programs (`make export`, docs/export.md).

What was written is read back and compared before it gets its name.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser, one_of  # noqa: E402
from records.doing import doing  # noqa: E402


def main(arguments: list[str]) -> int:
    """0; 1 for a run that cannot be exported, with nothing written."""
    from gpt2.export.formats import BLOCKS, DTYPES, FORMATS, dtype
    from matrix.plan import loaded

    parser = Parser(__doc__)
    add = parser.add_argument
    add("run", help="a run: its path or name (docs/operations.md)")
    add("--format", type=one_of(FORMATS), default="hf", help=", ".join(FORMATS))
    types = ", ".join((*DTYPES, *BLOCKS))
    add("--dtype", type=dtype, default="fp32", help=types)
    add("--out", type=Path, help="folder or file; RUN/export/FORMAT-DTYPE unless said")
    options = parser.parse_args(arguments)
    with entry.refusing(*loaded.REFUSED):
        run = loaded.run(ROOT, os.environ, options.run)
    with entry.importing():
        from gpt2.data.tokenization.tokenizers import TokenizerError
        from gpt2.export.bundle import ExportError
        from gpt2.export.write import deliver
        from gpt2.generation.generate import GenerateError
        from gpt2.training.checkpoint import CheckpointError
    # What a user can cause and mend: reported without a traceback.
    broken = (CheckpointError, TokenizerError, OSError, *loaded.REFUSED)
    try:
        with doing(f"exporting {run}"):
            lines = deliver(run, options.format, options.dtype, options.out)
    except (ExportError, GenerateError, *broken) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(*lines, sep="\n")
    return 0


if __name__ == "__main__":
    entry.run(main)
