"""One step to put a proof to."""

import pytest

from gpt2.check.subject import Subject


@pytest.fixture
def subject(resolve):
    """subject(RA="y", …): the defaults with these symbols, under check."""
    from gpt2.settings.run import run_settings

    def make(**symbols):
        run = run_settings(resolve(**symbols))
        return Subject("", run, run, {})

    return make
