"""`slim models pull` against a real server: resumed, checked, once, and honest about what is missing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim.checkpoint import read_pdparams, write_pdparams
from slim.cli.main import run
from slim.errors import InputError, StageFailed
from slim.pipeline.opening import open_model
from slim.progress import Silent
from slim.zoo import download as downloading
from slim.zoo import find
from slim.zoo.cache import Cache, cache_folder
from slim.zoo.pull import Pulled, pull
from slim.zoo.table import archive

from .conftest import QUICK, Publisher, tar_of

NAME = "ch_ppocr_mobile_v2.0_cls"
WANTED = archive(NAME, "train")
FILES = {"best_accuracy.pdparams": bytes(range(256)) * 2000, "train.log": b"epoch 1\n"}


@pytest.fixture
def served(publisher: Publisher) -> Publisher:
    """The server with one model, packed as the published ones are."""
    members = [(f"{WANTED.stem}/{name}", data) for name, data in FILES.items()]
    publisher.files[WANTED.path] = tar_of(*members)
    return publisher


def fetch(server: Publisher, **options: Any) -> Pulled:
    return pull(NAME, "train", **{"progress": Silent(), "base": server.base, "patience": QUICK, **options})


def held(done: Pulled) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in done.folder.iterdir()}


def test_pulled_once_and_found_again(served: Publisher, own_cache: Path) -> None:
    first = fetch(served)
    assert first.fetched and held(first) == FILES
    assert first.folder == own_cache / "models" / WANTED.stem
    again = fetch(served)
    assert not again.fetched and again.files == first.files
    assert served.asked == [(WANTED.path, None)]


@pytest.mark.parametrize("cuts", [[100_000], [20_000, 200_000, 0], [0, 0]])
def test_a_cut_connection_is_resumed_where_it_ended(served: Publisher, cuts: list[int]) -> None:
    served.cut_after = list(cuts)
    assert held(fetch(served)) == FILES
    first, *later = [asked for _, asked in served.asked]
    assert first is None and len(later) == len(cuts)
    for asked, received in zip(later, np.cumsum(cuts), strict=True):
        # The last read before a cut, of at most 16 KiB, is lost; the rest is not asked for again.
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        assert received - (1 << 14) < start <= received
        assert (asked is None) == (start == 0)


def test_a_server_that_gives_less_than_asked_for_is_asked_again(served: Publisher) -> None:
    served.cut_after, served.cap = [100_000], 150_000
    assert held(fetch(served)) == FILES
    assert len(served.asked) == 4  # 522,240 bytes: 98,304, then three pieces of up to 150,000


def test_an_interrupted_pull_goes_on_in_the_next_one(served: Publisher, own_cache: Path) -> None:
    served.cut_after = [300_000, 0, 0, 0]
    with pytest.raises(StageFailed, match=r"put the file at"):
        fetch(served)
    assert held(fetch(served)) == FILES
    assert served.asked[-1][1] == f"bytes={300_000 // (1 << 14) * (1 << 14)}-"
    assert not list((own_cache / "downloads").glob("*.part*"))


def test_a_server_that_ignores_range_starts_again(served: Publisher) -> None:
    served.ranges, served.cut_after = False, [100_000]
    assert held(fetch(served)) == FILES
    assert [asked is None for _, asked in served.asked] == [True, False]


def test_a_file_that_changed_between_two_tries_is_not_mixed(served: Publisher) -> None:
    served.cut_after = [100_000, 0, 0, 0]
    with pytest.raises(StageFailed):
        fetch(served)
    served.tag = '"2"'
    served.files[WANTED.path] = tar_of(("m/new.pdparams", bytes(300_000)))
    assert held(fetch(served)) == {"new.pdparams": bytes(300_000)}


def test_without_a_version_nothing_is_resumed(served: Publisher) -> None:
    served.tag, served.cut_after = "", [100_000]
    assert held(fetch(served)) == FILES
    assert [asked for _, asked in served.asked] == [None, None]


def test_a_part_longer_than_the_file_starts_again(served: Publisher, own_cache: Path) -> None:
    part = own_cache / "downloads" / f"{WANTED.file}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(len(served.files[WANTED.path]) + 5))
    part.with_name(f"{part.name}.version").write_text(served.tag)
    assert held(fetch(served)) == FILES


def test_a_busy_server_is_asked_again_a_missing_file_is_not(served: Publisher) -> None:
    served.status = [503, 429]
    assert held(fetch(served)) == FILES
    with pytest.raises(StageFailed, match=r"answers 404 Not Found; without a network: put the file at"):
        pull(NAME, "infer", progress=Silent(), base=served.base, patience=QUICK)
    assert len(served.asked) == 4


def test_more_bytes_than_allowed_are_refused(served: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match=r"bytes, the limit is 1,000"):
        fetch(served)


def test_a_full_disk_is_said_before_the_download(served: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 10})()
    monkeypatch.setattr("slim.zoo.download.shutil.disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"needs [\d,]+ bytes, 10 are free"):
        fetch(served)


def test_a_checksum_other_than_at_first_use_is_refused(served: Publisher, own_cache: Path) -> None:
    fetch(served)
    store = Cache(own_cache)
    store.forget(WANTED)
    store.tar(WANTED).unlink()
    good = served.files[WANTED.path]
    served.files[WANTED.path] = tar_of(("m/best_accuracy.pdparams", b"altered"))
    with pytest.raises(InputError, match=r"sha256 is \w{64}, at first use it was \w{64}.*pins\.sha256"):
        fetch(served)
    assert store.files(WANTED) is None and not store.tar(WANTED).exists()
    served.files[WANTED.path] = good
    assert held(fetch(served)) == FILES


def test_unpacked_files_that_were_changed_are_noticed(served: Publisher) -> None:
    done = fetch(served)
    (done.folder / "best_accuracy.pdparams").write_bytes(b"changed")
    with pytest.raises(InputError, match="was changed since it was unpacked; run: slim models pull"):
        find(f"zoo:{NAME}/train")
    assert fetch(served).fetched and held(done) == FILES
    assert len(served.asked) == 1  # the archive was still there


def test_a_hostile_archive_is_not_unpacked(served: Publisher, own_cache: Path) -> None:
    served.files[WANTED.path] = tar_of(("../../owned", b"x"))
    with pytest.raises(InputError, match="leaves the folder"):
        fetch(served)
    assert not list(own_cache.parent.rglob("owned")) and Cache(own_cache).files(WANTED) is None


def test_offline_is_one_line_with_the_place_for_the_file(
    own_cache: Path, served: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/"
    command = ["models", "pull", NAME, "--base-url", closed]
    assert run(command) == 4
    (line,) = capsys.readouterr().err.strip().splitlines()
    place = own_cache / "downloads" / WANTED.file
    assert "Connection refused" in line
    assert line.endswith(f"put the file at {place} and run the same command again")
    place.write_bytes(served.files[WANTED.path])
    assert run([*command, "--json"]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["use"] == f"--model zoo:{NAME}/train"
    assert "is used as it is" in out.err and served.asked == []


PULL = """
import sys
from slim.progress import Silent
from slim.zoo.pull import pull
print(pull(sys.argv[1], "train", progress=Silent(), base=sys.argv[2]).fetched)
"""


def test_two_processes_at_once_fetch_once(served: Publisher, checkout: Path) -> None:
    command = [sys.executable, "-c", PULL, NAME, served.base]
    both = [subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(process.communicate(timeout=60)[0].strip() for process in both)
    assert said == ["False", "True"] and len(served.asked) == 1


HOLD = """
import sys
from pathlib import Path
from slim.zoo.cache import Cache
cache = Cache(Path(sys.argv[1]))
cache.prepare()
with cache.locked(sys.argv[2], 1.0, None):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_that_is_held_too_long_names_its_holder(
    served: Publisher, own_cache: Path, checkout: Path
) -> None:
    command = [sys.executable, "-c", HOLD, str(own_cache), WANTED.stem]
    with subprocess.Popen(command, cwd=checkout, stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"is held by process {holder.pid}, waited 0.2 s"):
            fetch(served, wait=0.2)
        holder.kill()
    assert fetch(served, wait=5.0).fetched  # the lock of a killed process is free


@pytest.mark.skipif(os.geteuid() != 0, reason="permissions are tried as another user, which root alone can")
def test_a_cache_that_cannot_be_written_can_still_be_read(
    served: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        done = fetch(served, cache=folder)
        try:
            os.seteuid(65534)
            assert not fetch(served, cache=folder).fetched and held(done) == FILES
            with pytest.raises(InputError, match=r"cannot lock \(Permission denied\); choose another"):
                pull(NAME, "infer", progress=Silent(), base=served.base, cache=folder)
        finally:
            os.seteuid(0)


def test_a_cache_below_a_file_is_one_line(served: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"cannot write the cache.*choose another folder with --cache"):
        fetch(served, cache=tmp_path / "file" / "cache")


def test_the_cache_folder_follows_option_environment_and_xdg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder(tmp_path / "a") == tmp_path / "a"
    assert cache_folder() == tmp_path / "my cache"
    monkeypatch.delenv("SLIM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "paddleocr-slim"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "paddleocr-slim"


def test_pulled_weights_open_by_name(served: Publisher) -> None:
    """A checkpoint packed as published (macOS leftovers included) loads strictly through its recipe."""
    bundled = find(NAME)
    members = [
        (f"{WANTED.stem}/._best_accuracy.pdparams", b"\x00\x05\x16\x07"),
        (f"{WANTED.stem}/best_accuracy.pdparams", bundled.path.read_bytes()),
        (f"{WANTED.stem}/best_accuracy.states", b"never read"),
    ]
    served.files[WANTED.path] = tar_of(*members)
    fetch(served)
    model = open_model(f"zoo:{NAME}/train", None, Silent())
    assert model.source == f"zoo:{NAME}/train" and model.spec.kind == "cls"
    assert model.sha256() == open_model(f"zoo:{NAME}", None, Silent()).sha256()
    assert find(f"zoo:{NAME}").path == bundled.path  # the plain name stays the copy in the package


def _slim_train(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A checkpoint as quantization-aware training of PaddleSlim saves it."""
    wrapped = dict(state)
    for name in state:
        if name.endswith("conv.weight"):
            layer = name.removesuffix(".weight")
            wrapped[f"{layer}._fake_quant_input._scale"] = np.ones(1, np.float32)
            wrapped[f"{layer}._fake_quant_weight._scale"] = np.ones(state[name].shape[0], np.float32)
            wrapped[f"{layer}._act_preprocess.alpha"] = np.full(1, 20.0, np.float32)
    return wrapped


@pytest.mark.parametrize("config", [None, NAME])
def test_a_slim_checkpoint_by_path_is_refused_with_what_to_use(
    config: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best_accuracy.pdparams"
    write_pdparams(_slim_train(read_pdparams(find(NAME).path)), path)
    with_config = ["-c", config] if config else []
    assert run(["export", str(path), *with_config, "--out", str(tmp_path / "out")]) == 2
    assert "wrapped by a quantizer: use the float checkpoint it was made from" in capsys.readouterr().err


def test_a_pruned_checkpoint_without_its_plan_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = read_pdparams(find(NAME).path)
    state = {k: v[:6] if k.startswith("backbone.conv1.") else v for k, v in state.items()}
    path = tmp_path / "pruned.pdparams"
    write_pdparams(state, path)
    assert run(["export", str(path), "-c", NAME, "--out", str(tmp_path / "out")]) == 2
    assert "this checkpoint was pruned elsewhere" in capsys.readouterr().err
