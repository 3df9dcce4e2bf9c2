#!/usr/bin/env python3
"""Export a finished run for other programs (`make export`, docs/export.md).

What was written is read back and compared before it gets its name.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from gpt2.data.tokenization.tokenizers import TokenizerError  # noqa: E402
from gpt2.export.bundle import DTYPES, ExportError  # noqa: E402
from gpt2.export.write import TARGETS, deliver  # noqa: E402
from gpt2.generation.generate import GenerateError  # noqa: E402
from gpt2.training.checkpoint import CheckpointError  # noqa: E402
from kconf.syntax import ConfigError  # noqa: E402
from records import private  # noqa: E402
from records.layout import RecordError  # noqa: E402

# What a user can cause and mend: reported without a traceback.
BROKEN = (CheckpointError, ConfigError, RecordError, TokenizerError, OSError)
EXPECTED = (ExportError, GenerateError, *BROKEN)


def main(arguments: list[str]) -> int:
    """0; 1 for a run that cannot be exported, with nothing written."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("run", type=Path, help="a run directory: OUTPUT/STUDY/STEP/seed-K/HASH8")
    add("--format", choices=TARGETS, default="hf", help="%(default)s unless said")
    add("--dtype", choices=DTYPES, default="fp32", help="%(default)s unless said")
    add("--out", type=Path, help="folder or file; RUN/export/FORMAT-DTYPE unless said")
    options = parser.parse_args(arguments)
    try:
        lines = deliver(options.run, options.format, options.dtype, options.out)
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(*lines, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(private.claim() or main(sys.argv[1:]))
