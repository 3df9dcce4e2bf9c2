"""A text file of the user's as the corpus of a configuration: make TEXT=FILE …"""

import math
import os
from pathlib import Path
from typing import Mapping

from kconf.config_py import Value
from kconf.overrides import Overrides
from kconf.syntax import ConfigError, Finding

OVERLAY = "text"
"""The fragment that a study on such a file has: its results are those of another one."""


def corpus(root: Path, text: str) -> Overrides:
    """CONFIG_LOCAL_PATH for the file `text`, which is relative to the directory that
    the command runs in: relative to the checkout where it lies in it.

    Raises ConfigError for what is no file that can be read.
    """
    path = Path(os.path.abspath(text))
    if not path.is_file():
        refuse(text, "is a folder, not a file" if path.is_dir() else "no such file")
    if not os.access(path, os.R_OK):
        refuse(text, "cannot be read")
    root = Path(os.path.abspath(root))
    kept = path.relative_to(root) if path.is_relative_to(root) else path
    values = {"DATASET_LOCAL": "y", "LOCAL_PATH": str(kept)}
    return Overrides(values, f"TEXT={text}")


def require_length(text: str, values: Mapping[str, Value]) -> None:
    """Raise ConfigError for a file whose validation split is shorter than what an
    evaluation reads, CONFIG_GPT2_EVAL_WINDOWS windows: no tokenizer makes more tokens
    than bytes.
    """
    windows, context = values["GPT2_EVAL_WINDOWS"], values["GPT2_BLOCK_SIZE"]
    needed = math.ceil((windows * context + 1) / float(values["VAL_FRACTION"]))
    held = os.path.getsize(text)
    if held < needed:
        cause = f"holds {held:,} bytes and needs {needed:,}: an evaluation reads "
        cause += f"{windows} windows of {context} tokens (CONFIG_GPT2_EVAL_WINDOWS) of "
        cause += f"the last {values['VAL_FRACTION']} of it (CONFIG_VAL_FRACTION)"
        refuse(text, cause)


def refuse(text: str, cause: str) -> None:
    """Raise ConfigError for TEXT=text."""
    raise ConfigError([Finding(f"TEXT={text}", 0, None, cause)])
