"""Files from strangers, damaged at random from fixed seeds: each is read, or refused in one line.

Bytes are damaged by ``mutate``; JSON and YAML also as trees, which gets past the parser. What a C library
reads (images, LMDB, nets built by a stranger's spec) is read in a child process, which has to survive.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from slim import zoo
from slim.artifact import MANIFEST, read_manifest, verify
from slim.bundle import from_checkpoint, save
from slim.checkpoint import read_pdparams, read_pickle
from slim.config import list_configs, load_config
from slim.config.spec import model_spec
from slim.data.dataset import open_dataset
from slim.errors import ArtifactError, CheckpointError, ConfigError, InputError, SlimError
from slim.numerics import file_sha256

Mutate = Callable[[bytes, random.Random], bytes]
ROUNDS = 300
DEEP: Any = 1
for _ in range(200):
    DEEP = [DEEP]
STRANGE = (
    None, True, -1, 0, 1e308, float("inf"), 10**30, "", "x" * 5000, "../../etc/passwd", "\0", [], {}, [[]],
    DEEP, {"a": DEEP}, ["0"] * 3000,
)  # fmt: skip


def strange(tree: Any, rng: random.Random) -> Any:
    """A copy of a tree with one to three nodes replaced, dropped, renamed or doubled."""
    copy = deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        spots = list(_spots(copy))
        if not spots:
            return deepcopy(rng.choice(STRANGE))
        holder, key = rng.choice(spots)
        what = rng.randrange(5)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        elif what == 2 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif what == 3 and type(holder[key]) in (int, float):
            holder[key] = holder[key] * rng.choice([-1, 0, 2, 1000, 10**9])
        else:
            holder[key] = deepcopy(rng.choice(STRANGE))
    return copy


def _spots(tree: Any) -> Any:
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _spots(tree[key])


def _refused(error: SlimError) -> None:
    assert "\n" not in str(error) and len(str(error)) < 20_000


def test_configurations(tmp_path: Path, mutate: Mutate) -> None:
    rng, seen = random.Random("configs"), {"read": 0, "refused": 0}
    sources = [path.read_bytes() for path in list_configs().values()]
    for number in range(ROUNDS):
        source = rng.choice(sources)
        if number % 2:
            data = mutate(source, rng)
        else:
            data = yaml.safe_dump(strange(yaml.safe_load(source), rng)).encode()
        (tmp_path / "c.yml").write_bytes(data)
        try:
            load_config(tmp_path / "c.yml")
            seen["read"] += 1
        except ConfigError as error:
            _refused(error)
            seen["refused"] += 1
    print(seen)
    assert min(seen.values()) > ROUNDS // 20, seen


def test_label_files(tmp_path: Path, mutate: Mutate) -> None:
    boxes = '[{"transcription": "HI", "points": [[1,1],[9,1],[9,5],[1,5]]}]'
    sources = {"rec": "a/1.png\tHELLO\na/2.png\tWörld 3\n", "cls": "1.png\t0\n2.png\t180\n"}
    sources["det"] = f"1.png\t{boxes}\n2.png\t{boxes}\n"
    rng, seen = random.Random("labels"), {"read": 0, "refused": 0}
    path = tmp_path / "labels.txt"
    for number in range(ROUNDS):
        kind = ("rec", "cls", "det")[number % 3]
        path.write_bytes(mutate(sources[kind].encode() * 3, rng))
        try:
            data = open_dataset([path], tmp_path, kind)
            for line in range(len(data)):
                data.entry(line)
                try:
                    data.size(line)
                    raise AssertionError("no image is there")
                except InputError as error:
                    _refused(error)
            seen["read"] += 1
        except InputError as error:
            _refused(error)
            seen["refused"] += 1
    print(seen)
    assert min(seen.values()) > ROUNDS // 20, seen


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled classifier as a sealed folder."""
    from slim import artifact

    found = zoo.find("ch_ppocr_mobile_v2.0_cls")
    folder = tmp_path_factory.mktemp("a model") / "m"
    bundle = from_checkpoint(model_spec(load_config(list_configs()[found.config])), found.path)
    with artifact.writing(folder) as tmp:
        save(bundle, tmp)
        artifact.seal(tmp, "train", recipe={"steps": 1}, parent=bundle.sha256(), seed=1)
    return folder


def test_manifests(model: Path, tmp_path: Path, mutate: Mutate) -> None:
    folder = tmp_path / "m"
    shutil.copytree(model, folder)
    whole = (folder / MANIFEST).read_bytes()
    rng, seen = random.Random("manifests"), {"read": 0, "refused": 0}
    for number in range(ROUNDS):
        data = mutate(whole, rng) if number % 2 else json.dumps(strange(json.loads(whole), rng)).encode()
        (folder / MANIFEST).write_bytes(data)
        try:
            read_manifest(folder)
            verify(folder)
            seen["read"] += 1
        except ArtifactError as error:
            _refused(error)
            seen["refused"] += 1
    print(seen)
    assert min(seen.values()) > ROUNDS // 20, seen


def test_checkpoints(tmp_path: Path, mutate: Mutate) -> None:
    whole = zoo.find("ch_ppocr_mobile_v2.0_cls").path.read_bytes()
    rng, seen = random.Random("checkpoints"), {"read": 0, "refused": 0}
    path = tmp_path / "m.pdparams"
    for number in range(ROUNDS // 3):
        # Damage within the first kilobytes meets names, shapes and opcodes, elsewhere mostly numbers.
        head = rng.choice([500, 5000, len(whole)])
        path.write_bytes(mutate(whole[:head], rng) + whole[head:])
        try:
            (read_pdparams if number % 2 else read_pickle)(path)
            seen["read"] += 1
        except CheckpointError as error:
            _refused(error)
            seen["refused"] += 1
    print(seen)
    assert min(seen.values()) > 0, seen


# --- what a C library reads: in a child process, which says what it met, one word a case -----------------

_IMAGES = """
import sys
from pathlib import Path
from slim.data.images import UnreadableImage, decode_image, image_size
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        image = decode_image(path.read_bytes(), path.name)
        assert image.ndim == 3 and image.shape[2] == 3
        print("read", flush=True)
    except UnreadableImage as error:
        assert "\\n" not in str(error), repr(str(error))
        print("refused", flush=True)
"""
_LMDB = """
import sys
from pathlib import Path
from slim.data.lmdb_data import LmdbData
from slim.errors import InputError
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        data = LmdbData(path, "rec")
        for number in range(len(data)):
            try:
                data[number]
            except InputError as error:
                assert "\\n" not in str(error)
        print("read", flush=True)
    except InputError as error:
        assert "\\n" not in str(error)
        print("refused", flush=True)
"""
_MODELS = """
import resource, sys
from pathlib import Path
from slim.errors import SlimError
from slim.pipeline.opening import open_model
from slim.progress import Silent
open_model("zoo:ch_ppocr_mobile_v2.0_cls", None, Silent())
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        open_model(str(path), None, Silent())
        print("read", flush=True)
    except SlimError as error:
        assert error.exit_code == 2 and "\\n" not in str(error), repr(error)
        print("refused", flush=True)
"""


def in_child(code: str, folder: Path) -> list[str]:
    """The child's words; an assertion that names the case it died at."""
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    words, cases = done.stdout.split(), sorted(folder.iterdir())
    died = cases[len(words)].name if len(words) < len(cases) else "its end"
    assert done.returncode == 0, f"exit {done.returncode} at {died}: {done.stderr[-1500:]}"
    return words


def test_images(tmp_path: Path, mutate: Mutate) -> None:
    import cv2
    import numpy as np

    rng = random.Random("images")
    picture = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (24, 60, 3), np.uint8), (5, 5), 0)
    for ending in (".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm"):
        whole = cv2.imencode(ending, picture)[1].tobytes()
        for number in range(60):
            (tmp_path / f"{number:03d}{ending}").write_bytes(mutate(whole, rng))
    words = in_child(_IMAGES, tmp_path)
    print({word: words.count(word) for word in set(words)})
    assert len(words) == 360 and min(words.count("read"), words.count("refused")) > 30


@pytest.mark.slow
def test_lmdbs(tmp_path: Path, mutate: Mutate) -> None:
    import cv2
    import lmdb
    import numpy as np

    whole = tmp_path / "whole"
    env = lmdb.open(str(whole), map_size=1 << 24)
    with env.begin(write=True) as txn:
        for number in range(1, 101):
            image = np.random.default_rng(number).integers(0, 256, (16, 40, 3), np.uint8)
            txn.put(b"image-%09d" % number, cv2.imencode(".png", image)[1].tobytes())
            txn.put(b"label-%09d" % number, b"line %d" % number)
        txn.put(b"num-samples", b"100")
    env.close()
    data, rng, cases = (whole / "data.mdb").read_bytes(), random.Random("lmdb"), tmp_path / "cases"
    for number in range(120):
        (cases / f"{number:03d}").mkdir(parents=True)
        # Most of the file is pixels: damage the headers of pages more often.
        start = 4096 * rng.randrange(len(data) // 4096) if number % 3 else 0
        part = mutate(data[start : start + 64], rng)[:64].ljust(64, b"\0") if number % 3 else None
        damaged = mutate(data, rng) if part is None else data[:start] + part + data[start + 64 :]
        (cases / f"{number:03d}" / "data.mdb").write_bytes(damaged)
    words = in_child(_LMDB, cases)
    print({word: words.count(word) for word in set(words)})
    assert len(words) == 120 and min(words.count("read"), words.count("refused")) > 5


def _resealed(folder: Path, name: str, data: bytes) -> None:
    """A stranger's folder: the manifest vouches for the damaged file."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = file_sha256(folder / name)
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.slow
def test_specs_plans_and_schemes(slim: Any, tmp_path: Path, mutate: Mutate) -> None:
    """Folders of a pruned and quantized model whose spec.json, plan.json or scheme.json is a stranger's."""
    pruned, quantized, cases = tmp_path / "p", tmp_path / "q", tmp_path / "cases"
    assert slim.run(slim.stage("prune", pruned, "Prune.method=ratio", "Prune.Finetune=null"))[0] == 0
    args = slim.stage("quant", quantized, "Quant.mode=ptq")
    args[args.index("--model") + 1] = str(pruned)
    assert slim.run(args)[0] == 0
    rng = random.Random("plans")
    for number in range(150):
        folder = cases / f"{number:03d}"
        shutil.copytree(quantized, folder)
        name = ("spec.json", "plan.json", "scheme.json")[number % 3]
        whole = (folder / name).read_bytes()
        data = mutate(whole, rng) if number % 5 == 0 else json.dumps(strange(json.loads(whole), rng)).encode()
        _resealed(folder, name, data)
    words = in_child(_MODELS, cases)
    print({word: words.count(word) for word in set(words)})
    assert len(words) == 150 and min(words.count("read"), words.count("refused")) > 5


def test_a_child_that_dies_is_seen(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(AssertionError, match="exit -6 at 2"):
        in_child("print('read', flush=True); import os; os.abort()", tmp_path)
