"""Provenance tells code states apart and keeps secrets out."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from records import provenance

COMMIT = ["-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "-qm", "a"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("a = 1\n")
    for arguments in (["init", "-q"], ["add", "."], COMMIT):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    return tmp_path


def test_clean_and_dirty(repository: Path):
    clean = provenance.git_state(repository)
    assert len(clean["commit"]) == 40 and clean["dirty"] is False
    assert clean["diff"] == "" and clean["diff_sha256"] is None
    (repository / "a.py").write_text("a = 2\n")
    (repository / "new file.py").touch()
    dirty = provenance.git_state(repository)
    assert dirty["dirty"] and dirty["untracked"] == ["new file.py"]
    assert "+a = 2" in dirty["diff"] and not dirty["diff_truncated"]
    assert dirty["diff_sha256"] == hashlib.sha256(dirty["diff"].encode()).hexdigest()


def test_a_long_diff_is_cut_and_its_hash_is_not(repository: Path, monkeypatch):
    (repository / "a.py").write_text("a = 2\n")
    whole = provenance.git_state(repository)
    monkeypatch.setattr(provenance, "MAX_DIFF", 10)
    cut = provenance.git_state(repository)
    assert cut["diff"] == whole["diff"][:10] and cut["diff_truncated"]
    assert cut["diff_sha256"] == whole["diff_sha256"]


def test_no_repository_is_said(tmp_path: Path):
    state = provenance.git_state(tmp_path)
    assert state["commit"] is None and "not a git repository" in state["why"]


def test_a_folder_of_another_repository_has_no_commit(repository: Path):
    inner = repository / "unpacked"
    inner.mkdir()
    state = provenance.git_state(inner)
    assert state["commit"] is None and f"another one, {repository}" in state["why"]


def test_a_link_to_the_repository_is_the_repository(repository: Path):
    link = repository.with_name("link")
    link.symlink_to(repository)
    assert provenance.git_state(link) == provenance.git_state(repository)


def test_gather_is_json_and_holds_no_secret(repository: Path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    text = json.dumps(provenance.gather(repository))
    assert "hunter2" not in text
    found = json.loads(text)
    assert found["environment"]["CUDA_VISIBLE_DEVICES"] == "3"
    assert found["environment"]["ATEN_CPU_CAPABILITY"] == "default"
    assert found["cores"] >= 1 and found["cpu"] and found["packages"]["numpy"]


def test_variables_that_change_numbers(monkeypatch):
    """Those of the list that are set, and no other: some variables are credentials."""
    for name in provenance.NUMERIC:
        monkeypatch.delenv(name, raising=False)
    assert provenance.numeric_environment() == {}
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "a:1\nb\udcff")
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert provenance.numeric_environment() == {
        "NVIDIA_TF32_OVERRIDE": "0",
        "PYTORCH_ALLOC_CONF": r"a:1\nb\udcff",
    }
