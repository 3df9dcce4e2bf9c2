"""Whether the user has told Hugging Face's libraries to stay off the network.

HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE and HF_DATASETS_OFFLINE each silence one library;
here any of them silences everything that would fetch from the hub, before it waits for
a network that is not there.
"""

import os
from typing import Mapping

NAMES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
YES = ("1", "ON", "YES", "TRUE")
"""What these libraries take for yes, in any case; they take everything else for no."""
NO = ("", "0", "OFF", "NO", "FALSE")


class OfflineError(ValueError):
    """A variable of NAMES whose value is neither yes nor no; the message names it."""


def offline_by(environment: Mapping[str, str] = os.environ) -> str | None:
    """The first variable that says so, as NAME=value; None where none does.

    Raises OfflineError.
    """
    found = None
    for name in NAMES:
        value = environment.get(name, "")
        if value.upper() not in (*YES, *NO):
            raise OfflineError(
                f"{name}={value!r}: Hugging Face's libraries take it for no: set it to 1 "
                "or 0, or unset it"
            )
        if value.upper() in YES and found is None:
            found = f"{name}={value}"
    return found


def silence() -> str | None:
    """`offline_by`; where one variable says so, all do from now on, in this process and
    those that it starts. To be called before the libraries are imported.

    Raises OfflineError.
    """
    variable = offline_by()
    if variable:
        os.environ.update(dict.fromkeys(NAMES, "1"))
    return variable
