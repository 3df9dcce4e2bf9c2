"""The checksum of an export: what it covers, and what may be put beside it."""

import hashlib

import pytest

from gpt2.export import huggingface, native, seal
from gpt2.export.bundle import ExportError
from gpt2.export.read import load
from tests.gpt2.export.forged import papers_of
from tests.gpt2.parcels import bpe, parcel, randomised

NAME = "gpt2-124m"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("folder") / "hf"
    huggingface.write(place, parcel(NAME, randomised(NAME, bpe())))
    return place


def test_a_file_longer_than_its_head(tmp_path, monkeypatch):
    """What lies beyond the part that holds the digits counts as well."""
    monkeypatch.setattr(seal, "HEAD", 1 << 17)
    file = tmp_path / "m"
    native.write(file, parcel(NAME, randomised(NAME), whole=True))
    content = file.read_bytes()
    assert len(content) > 2 * seal.HEAD
    load(file, "cpu")
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ExportError, match="has the checksum .*, its papers name"):
        load(file, "cpu")


def test_it_is_that_of_the_file_with_zeros(tmp_path):
    file = tmp_path / "m"
    native.write(file, parcel(NAME, randomised(NAME), whole=True))
    named = papers_of(file)["sha256"].encode()
    content = file.read_bytes()
    assert content.count(named) == 1
    computed = hashlib.sha256(content.replace(named, b"0" * 64)).hexdigest()
    assert computed.encode() == named


def test_a_page_about_the_model_and_hidden_files_may_be_added(folder):
    for name in ("README.md", ".gitattributes"):
        (folder / name).write_text("added")
    (folder / ".cache").mkdir()
    assert load(folder, "cpu").note.endswith(", of all that left")


def test_a_folder_of_links(folder, tmp_path):
    """As a cache of downloads keeps it."""
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert load(tmp_path, "cpu").note == load(folder, "cpu").note
