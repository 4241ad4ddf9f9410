"""`slim models pull`: an archive of the table, downloaded once, checked, unpacked, found again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slim.errors import InputError
from slim.numerics import file_sha256
from slim.progress import Reporter
from slim.zoo.cache import Cache, cache_folder
from slim.zoo.download import Patience, download
from slim.zoo.table import BASE, Archive, archive
from slim.zoo.unpack import unpack

WAIT = 600.0
"""Seconds to wait for another process that pulls the same archive."""


@dataclass(frozen=True)
class Pulled:
    """An archive in the cache: its files below ``folder``, and whether this call had to fetch it."""

    archive: Archive
    folder: Path
    files: dict[str, str]
    fetched: bool


def pull(
    name: str,
    kind: str | None = None,
    *,
    progress: Reporter,
    cache: Path | None = None,
    base: str = BASE,
    wait: float = WAIT,
    patience: Patience | None = None,
) -> Pulled:
    """Download and unpack an archive unless it is there already; a file placed by hand is taken as it is.

    Args:
        base: address the table's paths are below; another one is a mirror with the same files.
    Raises:
        InputError: unknown name or kind, a cache that cannot be written, a checksum other than at first
            use, a hostile archive, a lock held too long.
        StageFailed: the download failed; the message gives the path where the file can be placed by hand.
    """
    wanted, store = archive(name, kind), Cache(cache_folder(cache))
    if (found := _there(wanted, store, progress)) is not None:
        return found  # before anything is written: a cache may be shared and read-only
    store.prepare()
    with store.locked(wanted.stem, wait, progress):
        if (found := _there(wanted, store, progress)) is not None:
            return found  # the process we waited for has done it
        store.forget(wanted)
        _obtain(wanted, store, base, progress, patience or Patience())
        unpack(store.tar(wanted), store.folder(wanted))
        store.remember(wanted)
    return Pulled(wanted, store.folder(wanted), store.files(wanted) or {}, True)


def _there(wanted: Archive, store: Cache, progress: Reporter) -> Pulled | None:
    files = store.files(wanted)
    if files is None:
        return None
    changed = store.altered(wanted)
    if changed is not None:
        progress.warn(f"{store.folder(wanted) / changed} was changed since it was unpacked: unpacking again")
        return None
    return Pulled(wanted, store.folder(wanted), files, False)


def _obtain(wanted: Archive, store: Cache, base: str, progress: Reporter, patience: Patience) -> None:
    """The archive at its place in the cache, its checksum that of its first use."""
    tar, by_hand = store.tar(wanted), True
    if not tar.is_file():
        by_hand = False
        url = f"{base.rstrip('/')}/{wanted.path}"
        hint = f"without a network: put the file at {tar} and run the same command again"
        download(url, tar, hint=hint, progress=progress, patience=patience)
    try:
        store.pin(wanted, file_sha256(tar))
    except InputError:
        if not by_hand:
            tar.unlink()  # the next pull fetches it again
        raise
    if by_hand:
        progress.info(f"{tar} is used as it is")


def weights(wanted: Archive, cache: Path | None = None) -> Path:
    """The .pdparams file of a pulled archive, its checksum verified.

    Raises:
        InputError: not pulled yet, changed since, or the archive holds no or several checkpoints.
    """
    store = Cache(cache_folder(cache))
    files, command = store.files(wanted), f"slim models pull {wanted.row.name} --kind {wanted.kind}"
    if files is None:
        raise InputError(
            f"is published but not in {store.root}", where=wanted.row.name, remedy=f"run: {command}"
        )
    # macOS puts ._best_accuracy.pdparams (no checkpoint) beside best_accuracy.pdparams when it packs.
    found = [n for n in files if n.endswith(".pdparams") and not n.rsplit("/", 1)[-1].startswith(".")]
    best = [n for n in found if n.rsplit("/", 1)[-1] == "best_accuracy.pdparams"] or found
    if len(best) != 1:
        raise InputError(
            f"holds {len(best)} checkpoints, 1 is needed", where=store.folder(wanted),
            remedy="give the .pdparams file by its path",
        )  # fmt: skip
    path = store.folder(wanted) / best[0]
    if not path.is_file() or file_sha256(path) != files[best[0]]:
        raise InputError("was changed since it was unpacked", where=path, remedy=f"run: {command}")
    return path
