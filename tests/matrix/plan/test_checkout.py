"""What a plan says of the checkout: steps that nothing uses, what is not committed."""

import subprocess

import pytest

NOT_USED = "defconfigs/toy.d is not used: "


@pytest.fixture
def git(checkout):
    """git(*words) in the checkout, which becomes a repository with all of it in."""

    def call(*words: str) -> None:
        named = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", *named, "-C", checkout.root, *words]
        subprocess.run(command, check=True, capture_output=True)

    call("init", "-q")
    (checkout.root / ".gitignore").write_text("/results/\n__pycache__/\n")
    call("add", "-A")
    call("commit", "-qm", "all")
    return call


def said(checkout, **given: str) -> list[str]:
    marks = "is not used", "not committed", "dirty"
    return [x for x in checkout.plan(**given).notes if any(mark in x for mark in marks)]


def test_what_is_not_committed(checkout, git):
    assert said(checkout) == []
    checkout.step("09-new", "# Help: new\nCONFIG_MLP_DIM=768\n")
    checkout.step("02-wide", "# Help: wider\nCONFIG_MLP_DIM=2048\n")
    for number in range(4):
        (checkout.root / f"a{number}").touch()
    (checkout.root / "defconfigs" / "toy").touch()
    assert len(said(checkout)) == 2
    first, second = said(checkout)
    assert first == (
        "not committed: defconfigs/toy.d/02-wide.config, defconfigs/toy, "
        "defconfigs/toy.d/09-new.config, a0 and 3 more"
    )
    assert second.startswith("  runs will record a dirty checkout (7 paths): commit ")
    status, output = checkout.run("plan")
    assert status == 0 and f"\n{first}\n{second}\n" in output
    first, second = said(checkout)  # the stub, too, left a file
    status, output = checkout.run("prereg")
    assert status == 0 and f"{first}\n{second}\n" in output
    git("add", "-A")
    git("commit", "-qm", "more")
    assert said(checkout) == []


def test_outside_a_repository_nothing_is_said_of_one(checkout):
    assert said(checkout) == []


def test_steps_that_are_not_used(checkout, monkeypatch):
    monkeypatch.chdir(checkout.root)
    single = {"CONFIG_SINGLE_RUN_MODE": "y"}
    assert said(checkout) == []
    (line,) = said(checkout, **single)
    assert (
        line == NOT_USED + "this is no ablation (CONFIG_RA_MLA_ABLATION_MODE=y is one)"
    )
    folder = checkout.root / "defconfigs"
    (folder / "mine.d").mkdir()
    begin = "defconfigs/mine.d is not used: "
    assert said(checkout) == [f"{begin}there is no defconfigs/mine"]
    base = folder / "mine"
    base.write_text('# Help: mine\nCONFIG_STUDY="mine"\n')
    why = "defconfigs/mine has no CONFIG_RA_MLA_ABLATION_MODE=y"
    assert said(checkout) == [begin + why]
    base.write_text('CONFIG_RA_MLA_ABLATION_MODE=y\nCONFIG_STUDY="toy"\n')
    why = 'defconfigs/mine says CONFIG_STUDY="toy", not "mine"'
    assert said(checkout) == [begin + why]
    base.write_text('CONFIG_RA_MLA_ABLATION_MODE=y\nCONFIG_STUDY="mine"\n')
    assert said(checkout) == []
    (folder / "broken").write_text("CONFIG_X = y\n")  # its own target refuses it
    assert said(checkout) == []


def test_a_folder_without_a_step_is_refused(checkout):
    for path in (checkout.root / "defconfigs" / "toy.d").iterdir():
        path.unlink()
    status, output = checkout.run("plan")
    assert status == 2 and "toy.d: holds no step: add 00-baseline.config" in output
