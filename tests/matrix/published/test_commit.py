"""The commit of a published run: in a public remote, or no commit to anybody else."""

import subprocess
from pathlib import Path

import pytest

from matrix.published.commit import absent, not_public, origin, unreachable


class TestCommit:
    @pytest.fixture
    def repository(self, tmp_path):
        """git(…) in a repository with one commit on main."""
        path = tmp_path / "public"

        def git(*arguments: str) -> str:
            identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
            command = ["git", "-C", str(path), *identity, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return done.stdout.strip()

        subprocess.run(["git", "init", "-qb", "main", str(path)], check=True)
        git("commit", "-q", "--allow-empty", "-m", "one")
        git.url = str(path)
        return git

    def test_a_commit_of_a_branch(self, repository):
        first = repository("rev-parse", "HEAD")
        repository("commit", "-q", "--allow-empty", "-m", "two")
        assert absent(first, repository.url) is None

    def test_a_commit_that_no_branch_holds(self, repository):
        repository("commit", "-q", "--allow-empty", "-m", "two")
        lost = repository("rev-parse", "HEAD")
        repository("reset", "-q", "--hard", "HEAD~1")
        told = f"{lost[:12]} is in no branch or tag of {repository.url}"
        assert absent(lost, repository.url) == told

    def test_a_remote_that_is_not_there(self, tmp_path):
        found = absent("a" * 40, str(tmp_path / "nothing"))
        assert "cannot be fetched without credentials" in found

    @pytest.mark.parametrize("url", ["git@github.com:a/b.git", "ssh://git@x/b"])
    def test_a_remote_that_asks_who_you_are(self, url):
        assert "name the public URL" in unreachable("a" * 40, url)

    @pytest.mark.parametrize(
        "form", ["{}", "file://{}", "{}/.git", "file://localhost{}"]
    )
    def test_a_repository_of_this_machine(self, repository, form):
        """It can be fetched, and nobody else can."""
        first, remote = repository("rev-parse", "HEAD"), form.format(repository.url)
        assert absent(first, remote) is None
        assert "is a path of this machine" in str(unreachable(first, remote))

    @pytest.mark.parametrize(
        "remote",
        ["../there", "./x", "~/x", "x", "a/b.git", "FILE:///x", "ext::sh -c id"]
        + ["host:a/b.git", "git@host.org:a/b.git", "ssh://git@host.org/a", "-u:x"]
        + [f"https://{host}/a/b" for host in ("localhost", "a.localhost", "gitserver")]
        + [f"git://{host}/a" for host in ("127.0.0.1", "[::1]", "10.0.0.5", "0.0.0.0")]
        + [f"http://{host}/a" for host in ("127.1", "2130706433", "0x7f.1", "a..b")]
        + [
            f"http://{host}:8080/a"
            for host in ("192.168.1.2", "169.254.1.1", "x.local")
        ]
        + [
            "https:///a/b",
            "http://[::ffff:127.0.0.1]/a",
            "https://[fe80::1/a",
            "https://",
        ]
        + ["https://me:secret@host.org/a", "https://token@host.org/a"],
    )
    def test_what_is_no_public_remote(self, remote):
        told = str(not_public(remote))
        assert "name the public URL" in told
        assert "secret" not in told and "token" not in told

    @pytest.mark.parametrize(
        "remote",
        ["https://github.com/a/b.git", "http://git.kernel.org/x", "git://a.b-c.org/x"]
        + [
            "https://codeberg.org:443/a",
            "https://8.8.8.8/a",
            "https://xn--p1ai.org./a",
        ],
    )
    def test_what_may_be_one(self, remote):
        assert not_public(remote) is None

    def test_nothing_of_the_environment_speaks_to_git(self, repository, monkeypatch):
        """It could point anywhere, or hand over a credential."""
        first = repository("rev-parse", "HEAD")
        for name, value in {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{repository.url}.insteadOf",
            "GIT_CONFIG_VALUE_0": "/not/there",
        }.items():
            monkeypatch.setenv(name, value)
        assert "cannot be fetched" in str(absent(first, "/not/there"))

    def test_the_origin_of_a_checkout(self, repository):
        assert origin(Path(repository.url)) is None
        repository("remote", "add", "origin", "https://x/y")
        assert origin(Path(repository.url)) == "https://x/y"
