"""Artifact folders appear whole or not at all, replace only our own, and notice every change."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slim import artifact
from slim.errors import ArtifactError, InputError


def write(dest: Path, text: str = "one") -> None:
    with artifact.writing(dest) as tmp:
        (tmp / "sub").mkdir()
        (tmp / "a.txt").write_text(text)
        (tmp / "sub/manifest.json").write_text("a file of the model, not the manifest")
        artifact.seal(tmp, "train", recipe={"steps": 1}, parent="0" * 64, seed=3, facts={"acc": 0.5})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_comes_back_with_every_file_hashed(tmp_path):
    write(tmp_path / "deep/p1")
    manifest = artifact.verify(tmp_path / "deep/p1")
    assert sorted(manifest.files) == ["a.txt", "sub/manifest.json"]
    assert (manifest.stage, manifest.seed, manifest.facts) == ("train", 3, {"acc": 0.5})
    assert manifest.tools["paddlepaddle"] == "2.6.2"
    assert names(tmp_path / "deep") == ["p1"]


def test_a_block_that_raises_leaves_nothing_new(tmp_path):
    with pytest.raises(KeyError), artifact.writing(tmp_path / "p1") as tmp:
        (tmp / "a.txt").write_text("half")
        raise KeyError
    assert names(tmp_path) == []


def test_a_block_that_raises_keeps_the_old_folder(tmp_path):
    write(tmp_path / "p1")
    with pytest.raises(KeyError), artifact.writing(tmp_path / "p1") as tmp:
        (tmp / "a.txt").write_text("half")
        raise KeyError
    assert names(tmp_path) == ["p1"]
    assert (tmp_path / "p1/a.txt").read_text() == "one"
    artifact.verify(tmp_path / "p1")


def test_an_older_folder_of_ours_is_replaced_as_a_whole(tmp_path):
    write(tmp_path / "p1")
    with artifact.writing(tmp_path / "p1") as tmp:
        (tmp / "b.txt").write_text("two")
        artifact.seal(tmp, "prune", recipe={}, parent="", seed=0)
    assert names(tmp_path / "p1") == ["b.txt", "manifest.json"]


def test_the_old_folder_is_there_until_the_block_has_ended(tmp_path):
    write(tmp_path / "p1")
    with artifact.writing(tmp_path / "p1") as tmp:
        artifact.verify(tmp_path / "p1")
        artifact.seal(tmp, "prune", recipe={}, parent="", seed=0)


def test_when_the_renaming_fails_the_old_folder_is_put_back(tmp_path, monkeypatch):
    write(tmp_path / "p1")
    real = os.replace

    def replace(source, target):
        if ".tmp-" in Path(source).name and Path(source).is_dir():
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="No space left"), artifact.writing(tmp_path / "p1") as tmp:
        (tmp / "a.txt").write_text("new")
    assert names(tmp_path) == ["p1"]
    artifact.verify(tmp_path / "p1")


@pytest.mark.parametrize("manifest", [None, '{"name": "a web app"}', "not json", '{"format": 99}', "[]"])
def test_a_folder_that_is_not_ours_is_refused_and_untouched(tmp_path, manifest):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_text("precious")
    if manifest is not None:
        (tmp_path / "photos/manifest.json").write_text(manifest)
    before = names(tmp_path / "photos")
    with pytest.raises(InputError, match="holds files that slim did not write.*another --out"):
        write(tmp_path / "photos")
    assert names(tmp_path / "photos") == before and names(tmp_path) == ["photos"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "p1").write_text("precious")
    with pytest.raises(InputError, match="exists and is not a folder"):
        write(tmp_path / "p1")
    with pytest.raises(InputError, match="p1/inside: cannot write here"):
        write(tmp_path / "p1/inside")


def test_an_empty_folder_and_the_current_one_may_be_written(tmp_path, monkeypatch):
    (tmp_path / "p1").mkdir()
    write(tmp_path / "p1")
    (tmp_path / "p2").mkdir()
    monkeypatch.chdir(tmp_path / "p2")
    write(Path("."))
    assert names(tmp_path) == ["p1", "p2"]
    artifact.verify(tmp_path / "p2")


def test_a_link_to_a_folder_is_followed(tmp_path):
    write(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real/a.txt").read_text() == "two"


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_a_killed_process_left_is_cleared_and_a_living_ones_is_not(tmp_path):
    dead, alive = tmp_path / f".p1.tmp-{dead_pid()}", tmp_path / f".p1.tmp-{os.getppid()}"
    others = tmp_path / ".p1.tmp-notes"
    for folder in (dead, alive, others):
        folder.mkdir()
    write(tmp_path / "p1")
    assert not dead.exists() and alive.exists() and others.exists()


def test_a_folder_set_aside_by_a_killed_process_is_put_back(tmp_path):
    write(tmp_path / "p1")
    os.replace(tmp_path / "p1", tmp_path / f".p1.old-{dead_pid()}")
    with pytest.raises(KeyError), artifact.writing(tmp_path / "p1"):
        raise KeyError
    artifact.verify(tmp_path / "p1")
    assert names(tmp_path) == ["p1"]


KILLED = """
import sys, time
from pathlib import Path
from slim import artifact
with artifact.writing(Path(sys.argv[1])) as tmp:
    (tmp / "a.txt").write_text("two")
    print("inside", flush=True)
    time.sleep(60)
"""


def test_killed_while_writing_the_old_folder_stands(tmp_path, checkout):
    write(tmp_path / "p1")
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "p1")], cwd=checkout, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "inside\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    time.sleep(0.1)
    artifact.verify(tmp_path / "p1")
    write(tmp_path / "p1", "three")
    assert names(tmp_path) == ["p1"]


@pytest.mark.parametrize("name", ["a.txt", "sub/manifest.json"])
def test_an_altered_or_missing_file_is_named(tmp_path, name):
    write(tmp_path / "p1")
    path = tmp_path / "p1" / name
    path.write_text(path.read_text() + " ")
    with pytest.raises(ArtifactError, match=f"{name} was changed after it was written"):
        artifact.verify(tmp_path / "p1")
    path.unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        artifact.verify(tmp_path / "p1")


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "link.txt"])
def test_a_manifest_may_not_name_files_outside(tmp_path, name):
    write(tmp_path / "p1")
    (tmp_path / "outside.txt").write_text("x")
    (tmp_path / "p1/link.txt").symlink_to(tmp_path / "outside.txt")
    path = tmp_path / "p1/manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "files": {name: "0" * 64}}))
    with pytest.raises(ArtifactError, match="outside the folder"):
        artifact.verify(tmp_path / "p1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "manifest format 2, this version reads 1"),
        ({"files": ["a.txt"]}, "'files' is missing or no dict"),
        ({"seed": "3"}, "'seed' is missing or no int"),
        ({"recipe": None}, "'recipe' is missing or no dict"),
    ],
)
def test_damaged_manifests_are_clear_errors(tmp_path, change, message):
    write(tmp_path / "p1")
    path = tmp_path / "p1/manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match=message):
        artifact.read_manifest(tmp_path / "p1")


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, "\udcff"])
def test_unreadable_json_is_one_clear_error(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ArtifactError) as caught:
        artifact.read_json(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_json_of_other_folders_and_sizes(tmp_path):
    with pytest.raises(ArtifactError, match="no such file; give a folder written by slim"):
        artifact.read_manifest(tmp_path)
    with (tmp_path / "big.json").open("wb") as stream:
        stream.truncate((16 << 20) + 1)
    with pytest.raises(ArtifactError, match="larger than 16777216 bytes"):
        artifact.read_json(tmp_path / "big.json")


def test_json_is_written_aside_and_refuses_nan(tmp_path):
    artifact.write_json(tmp_path / "a.json", {"text": "größe"})
    assert artifact.read_json(tmp_path / "a.json") == {"text": "größe"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifact.write_json(tmp_path / "a.json", {"value": float("nan")})
    assert artifact.read_json(tmp_path / "a.json") == {"text": "größe"}
    assert names(tmp_path) == ["a.json"]
    with pytest.raises(InputError, match="cannot write"):
        artifact.write_json(tmp_path / "a.json/inside.json", {})


PUBLISHING = """
import sys
from pathlib import Path
from slim import artifact
dest = Path(sys.argv[1])
for number in range(300):
    aside = dest.with_name(f".p1.tmp-{sys.argv[2]}")
    aside.mkdir()
    (aside / "a.txt").write_text(sys.argv[2])
    artifact._swap(aside, dest)
"""


def test_two_that_publish_one_folder_again_and_again(tmp_path, checkout):
    """Each renaming may meet the other's: both end well, and the folder is one of theirs, whole."""
    command = [sys.executable, "-c", PUBLISHING, str(tmp_path / "p1")]
    both = [subprocess.Popen([*command, name], cwd=checkout) for name in ("one", "two")]
    assert [child.wait(timeout=120) for child in both] == [0, 0]
    assert (tmp_path / "p1/a.txt").read_text() in ("one", "two")
    assert names(tmp_path) == ["p1"]


@pytest.mark.parametrize("name", ["NOTES.txt", "sub/mine.txt", "predictions.jsonl.mine"])
def test_a_file_of_the_user_in_a_folder_of_ours_is_not_deleted(tmp_path, name):
    write(tmp_path / "p1")
    (tmp_path / "p1" / name).write_text("mine")
    with pytest.raises(InputError, match=f"holds {name}, which slim did not write.*another --out"):
        write(tmp_path / "p1", "two")
    assert (tmp_path / "p1" / name).read_text() == "mine"
    assert (tmp_path / "p1/a.txt").read_text() == "one"


def test_what_a_check_added_is_replaced_with_the_folder(tmp_path):
    write(tmp_path / "p1")
    for name in ("report.json", "report.md.tmp-12", "layers.png", "predictions.jsonl"):
        (tmp_path / "p1" / name).write_text("of slim check")
    write(tmp_path / "p1", "two")
    assert names(tmp_path / "p1") == ["a.txt", "manifest.json", "sub"]
