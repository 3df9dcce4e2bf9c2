"""Fixtures of the packed corpora, for what measures them."""

from tests.gpt2.data.conftest import make_settings  # noqa: F401
