"""Whether a commit can be had by anyone: fetched without credentials, and looked for."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

SECONDS = 300.0
"""What fetching the history of a remote may take."""
OPEN_URL = re.compile(r"(https?|git|file)://|/")
COMMIT = re.compile(r"[0-9a-f]{40,64}\Z")


def origin(root: Path) -> str | None:
    """The URL of the checkout's remote `origin`; None where it has none."""
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def unreachable(commit: str, remote: str | None) -> str | None:
    """Why nobody can check out `commit` from `remote`; None when anybody can.

    Fetches the commits of every branch and tag, without files, credentials or
    prompts, so that a success means a public remote.
    """
    if not COMMIT.match(commit):
        return f"{commit!r} is no commit"
    if remote is None:
        return "this checkout has no remote origin: name the public one (--remote URL)"
    if not OPEN_URL.match(remote):
        return (
            f"{remote} is not open to everybody: name the public URL "
            "(--remote https://…)"
        )
    with tempfile.TemporaryDirectory() as scratch:
        failed = _git(scratch, "init", "--quiet", "--bare")
        failed = failed or _git(
            scratch,
            *("fetch", "--quiet", "--filter=tree:0", "--no-write-fetch-head"),
            *(remote, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"),
        )
        if failed:
            return f"{remote} cannot be fetched without credentials: {failed}"
        absent = _git(scratch, "cat-file", "-e", f"{commit}^{{commit}}")
    return f"{commit[:12]} is in no branch or tag of {remote}" if absent else None


def _git(directory: str, *arguments: str) -> str | None:
    """None when git succeeds, else what it says."""
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,  # no credential helper
        "HOME": directory,  # no .netrc
    }
    command = ["git", "-C", directory, *arguments]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {SECONDS:.0f} s"
    return None if done.returncode == 0 else done.stderr.strip() or "failed"
