"""Whether a commit can be had by anyone: fetched without credentials, and looked for."""

import ipaddress
import os
import re
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

SECONDS = 300.0
"""What fetching the history of a remote may take."""
OPEN_URL = re.compile(r"(https?|git)://")
COMMIT = re.compile(r"[0-9a-f]{40,64}\Z")
HOST = re.compile(r"([a-z0-9_-]+\.)+[a-z][a-z0-9-]*[a-z0-9]\.?")
"""A host that DNS can have: numbers alone are an address, one word a neighbour."""
PRIVATE = ("localhost", "localdomain", "local", "internal", "lan", "home", "corp")
PRIVATE += ("intranet", "private", "arpa", "test", "invalid", "example", "onion")
"""Last parts of names that no public server has."""
ADVICE = "name the public URL (--remote https://…)"


def origin(root: Path) -> str | None:
    """The URL of the checkout's remote `origin`; None where it has none."""
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def not_public(remote: str | None) -> str | None:
    """Why a remote is not one that everybody can reach; None for an open URL of a
    public host. Nothing is asked of the host itself.
    """
    if remote is None:
        return "this checkout has no remote origin: name the public one (--remote URL)"
    if "://" in remote and OPEN_URL.match(remote) is None:
        scheme = remote.partition("://")[0]
        if scheme == "file":
            return f"{remote} is a path of this machine: {ADVICE}"
        return f"{scheme}:// is not open to everybody: {ADVICE}"
    if OPEN_URL.match(remote) is None:
        local = remote.startswith(("/", ".", "~")) or ":" not in remote
        what = "a path of this machine" if local else "not open to everybody"
        return f"{remote} is {what}: {ADVICE}"
    try:
        parts = urlsplit(remote)
        host, named = parts.hostname or "", parts.username or parts.password
    except ValueError:
        return f"{remote} is no URL: {ADVICE}"
    if named is not None:
        return f"the URL of {host} holds credentials: {ADVICE}"
    if not _public_host(host.lower()):
        return f"{host or 'no host'} is no public host: {ADVICE}"
    return None


def _public_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        named = HOST.fullmatch(host) is not None
        return named and host.rstrip(".").rpartition(".")[2] not in PRIVATE


def unreachable(commit: str, remote: str | None) -> str | None:
    """Why nobody can check out `commit` from `remote`; None when anybody can."""
    if not COMMIT.match(commit):
        return f"{commit!r} is no commit"
    return not_public(remote) or absent(commit, remote)


def absent(commit: str, remote: str) -> str | None:
    """Why `commit` is in no branch or tag of `remote`; None when it is in one.

    Fetches the commits of every branch and tag, without files, credentials or
    prompts, so that a success means an open remote.
    """
    with tempfile.TemporaryDirectory() as scratch:
        failed = _git(scratch, "init", "--quiet", "--bare")
        failed = failed or _git(
            scratch,
            *("fetch", "--quiet", "--filter=tree:0", "--no-write-fetch-head"),
            *("--", remote, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"),
        )
        if failed:
            return f"{remote} cannot be fetched without credentials: {failed}"
        missing = _git(scratch, "cat-file", "-e", f"{commit}^{{commit}}")
    return f"{commit[:12]} is in no branch or tag of {remote}" if missing else None


def _git(directory: str, *arguments: str) -> str | None:
    """None when git succeeds, else what it says.

    Of the environment nothing that speaks to git goes along: it could name another
    repository, rewrite the URL or carry a credential.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "SSH_"))}
    environment = {
        **kept,
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
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {SECONDS:.0f} s"
    return None if done.returncode == 0 else done.stderr.strip() or "failed"
