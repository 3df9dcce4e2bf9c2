"""Folders of this user alone, from which code is run.

A snapshot of the code is run, and so is what a compiler kept: inductor's cache holds
pickles and shared objects. Results come from anybody, so neither lies among them.
Both lie in the user's cache, $XDG_CACHE_HOME/kablate or ~/.cache/kablate. That nobody
else can write there is looked at before anything is run from it.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

CACHES = {"TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
"""Where compilers keep what they made, and the folder's name in the user's cache."""

VOCABULARY_CACHES = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")
"""Where tiktoken keeps what it fetched; the first that is set counts."""


class NotPrivate(OSError):
    """Somebody else could put code into a folder; the message says what to do."""


def cache_home() -> Path:
    """The user's cache; nothing need exist. A relative $XDG_CACHE_HOME does not count."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = named if os.path.isabs(named) else os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise NotPrivate("this user has no home directory: set XDG_CACHE_HOME")
    return Path(base) / "kablate"


def cache(*names: str) -> Path:
    """A folder of the user's cache, made where it is missing. Raises NotPrivate."""
    folder = private_folder(cache_home(), "XDG_CACHE_HOME")
    for name in names:
        folder = private_folder(folder / name, "XDG_CACHE_HOME")
    return folder


def private_folder(path: Path | str, variable: str = "") -> Path:
    """The folder `path`, absolute, made with mode 700 where it is missing.

    Nobody but this user can change what is in it: it is no link, it is the user's, and
    neither group nor others may write. What it lies in belongs to the user or to the
    system, and others may not write there, unless it has the sticky bit (/tmp).

    variable: the one that chooses the folder, for the message. Raises NotPrivate.
    """
    path = Path(os.path.abspath(path))
    other = f", or set {variable} to another folder" if variable else ""
    for missing in (*reversed(path.parents), path):
        try:
            missing.mkdir(0o700)
        except OSError as error:
            if not os.path.lexists(missing):
                why = f"{missing} cannot be made: {error.strerror}: mend that"
                raise NotPrivate(f"{why}{other} ({path})") from None
    fault = _fault(path, {os.getuid()}, 0o022)
    if not stat.S_ISDIR(path.lstat().st_mode):
        fault = f"{path} is no folder (a link is none)"
    trusted = {os.getuid(), 0, os.stat("/").st_uid}
    for above in (*path.parents, *path.resolve().parents):
        fault = fault or _fault(above, trusted, 0o002, stat.S_ISVTX)
    if fault:
        raise NotPrivate(f"{fault}: chmod go-w it, remove it{other} ({path})")
    return path


def _fault(path: Path, owners: set[int], writers: int, sticky: int = 0) -> str:
    """Why others could change what `path` holds; "" when they cannot.

    writers: mode bits that may not be set, unless `sticky` is.
    """
    info = path.lstat()
    if info.st_uid not in owners:
        return f"{path} belongs to uid {info.st_uid}"
    shared = info.st_mode & writers and not info.st_mode & sticky
    if shared and not stat.S_ISLNK(info.st_mode):
        return f"{path} has mode {stat.S_IMODE(info.st_mode):o}: others may write there"
    return ""


def compile_caches(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of CACHES, each as `environment` has it or in the user's cache; and
    TMPDIR, where torch keeps precompiled headers under a name that anybody could take
    first: $TMPDIR/kablate-UID.

    Every folder is there, and `own`. Raises NotPrivate.
    """
    temporary = Path(environment.get("TMPDIR") or "/tmp")
    if temporary.name != shared_name():
        temporary /= shared_name()
    found = {"TMPDIR": str(private_folder(temporary, "TMPDIR"))}
    for variable, name in CACHES.items():
        given = environment.get(variable)
        found[variable] = str(private_folder(given, variable) if given else cache(name))
    return found


def vocabulary_cache() -> Path:
    """Where tiktoken keeps what it fetched: what one of its own variables names, else
    the user's cache, and not a folder of /tmp.
    """
    for name in VOCABULARY_CACHES:
        if name in os.environ:
            return Path(os.environ[name])
    return cache_home() / "tiktoken"


def claim_vocabulary_cache() -> None:
    """Tell tiktoken where that is."""
    os.environ.setdefault(VOCABULARY_CACHES[0], str(vocabulary_cache()))


def shared_name() -> str:
    """The name of this user's folder in one that all users share."""
    return f"kablate-{os.getuid()}"


def claim() -> None:
    """Set the variables of `compile_caches`, before torch is imported. Where a folder is
    not private the process ends with status 1 and a line.
    """
    try:
        os.environ.update(compile_caches(os.environ))
    except OSError as error:
        raise SystemExit(f"error: {error}") from None
