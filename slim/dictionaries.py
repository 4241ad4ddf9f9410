"""Character dictionaries: which file a config means, what it holds, and the classes of a net.

The dictionaries of the official models are bundled (``slim/dicts``), so that a config naming a file of
the PaddleOCR tree (``ppocr/utils/en_dict.txt``) works anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from slim.errors import InputError
from slim.spec import BLANK

if TYPE_CHECKING:
    from slim.config.schema import Config

BUNDLED = Path(__file__).resolve().parent / "dicts"
MAX_BYTES = 1_000_000
MAX_ENTRIES = 50_000
# PaddleOCR's classes when a recognizer's config names no dictionary: 0-9a-z.
DEFAULT_FILE = "ic15_dict.txt"

_AT_UTILS = ("en_dict.txt", "ic15_dict.txt", "ppocr_keys_v1.txt")
_IN_DICT = (
    "arabic_dict.txt",
    "chinese_cht_dict.txt",
    "cyrillic_dict.txt",
    "devanagari_dict.txt",
    "french_dict.txt",
    "german_dict.txt",
    "ic15_dict.txt",
    "japan_dict.txt",
    "ka_dict.txt",
    "korean_dict.txt",
    "latin_dict.txt",
    "ta_dict.txt",
    "te_dict.txt",
)
# Path in the PaddleOCR tree -> bundled file. The two en_dict.txt are different dictionaries.
PADDLEOCR_PATHS: dict[str, str] = {
    **{f"ppocr/utils/{name}": name for name in _AT_UTILS},
    **{f"ppocr/utils/dict/{name}": name for name in _IN_DICT},
    "ppocr/utils/dict/en_dict.txt": "en63_dict.txt",
}


def bundled_names() -> tuple[str, ...]:
    """File names of the bundled dictionaries, sorted."""
    return tuple(sorted(file.name for file in BUNDLED.glob("*.txt")))


def resolve_dictionary(name: str | None) -> Path:
    """The file a config's ``character_dict_path`` means.

    A file that exists wins; then the tail ``ppocr/utils/...`` of the path, then a bundled file's name.
    None means PaddleOCR's default, 0-9a-z.

    Raises:
        InputError: no such file, with the nearest known name.

    >>> resolve_dictionary("./ppocr/utils/dict/en_dict.txt").name
    'en63_dict.txt'
    """
    if name is None:
        return BUNDLED / DEFAULT_FILE
    path = Path(name)
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise InputError("is a folder, must be a dictionary file", where=name)
    except (OSError, ValueError) as error:
        raise InputError(f"is not a usable path ({error})", where="character_dict_path") from error
    parts = PurePosixPath(name.replace("\\", "/")).parts
    for start in range(len(parts)):
        bundled = PADDLEOCR_PATHS.get("/".join(parts[start:]))
        if bundled is not None:
            return BUNDLED / bundled
    if len(parts) == 1 and name in bundled_names():
        return BUNDLED / name
    raise _not_found(name)


def _not_found(name: str) -> InputError:
    from slim.config.suggest import nearest

    guess = nearest(name, PADDLEOCR_PATHS) or nearest(PurePosixPath(name).name, bundled_names())
    remedy = f"did you mean {guess}?" if guess else "give a file with one character per line"
    return InputError("no such dictionary file", where=name, remedy=remedy)


def read_dictionary(path: Path) -> tuple[str, ...]:
    """Entries of a dictionary in class order: one per line, UTF-8, a space may be an entry.

    ``p<TAB>`` in a file without a plain ``p`` is read as ``p``: PaddleOCR's german_dict.txt has it so.

    Raises:
        InputError: missing, too large, not UTF-8, empty, an empty line, or an entry that stands twice.
    """
    entries = _lines(path)
    plain = set(entries)
    entries = [
        entry[0] if len(entry) == 2 and entry[1] == "\t" and entry[0] not in plain else entry
        for entry in entries
    ]
    if not entries:
        raise InputError("dictionary is empty", where=path, remedy="write one character per line")
    if len(entries) > MAX_ENTRIES:
        raise InputError(f"dictionary has {len(entries)} entries, limit {MAX_ENTRIES}", where=path)
    first: dict[str, int] = {}
    for number, entry in enumerate(entries, 1):
        if entry == "":
            raise InputError(
                f"line {number} is empty", where=path, remedy="delete it, or write the character"
            )
        if entry in first:
            raise InputError(
                f"{entry!r} stands in line {first[entry]} and again in line {number}",
                where=path,
                remedy="each class needs a character of its own",
            )
        first[entry] = number
    return tuple(entries)


def read_text(path: Path, what: str, most: int, *, smaller: str | None = None) -> str:
    """A UTF-8 file of at most ``most`` bytes, without the mark some editors put first.

    Args:
        what: names the file in errors. smaller: what to do about one that is too large.
    Raises:
        InputError: missing, too large or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise InputError(f"{what} cannot be read ({error.strerror})", where=path) from error
    if len(raw) > most:
        raise InputError(f"{what} is larger than {most} bytes", where=path, remedy=smaller)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} is not UTF-8 text (byte {error.start})", where=path) from error


def _lines(path: Path) -> list[str]:
    text = read_text(path, "dictionary", MAX_BYTES)
    if "\0" in text:
        raise InputError("dictionary is a binary file", where=path)
    # Only "\n" ends an entry: str.splitlines would also split at characters that may be entries.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def ctc_labels(entries: Sequence[str], use_space_char: bool) -> tuple[str, ...]:
    """Classes of a CTC head: blank, the dictionary, and a space when asked for.

    The space is appended even where the dictionary ends with one: PaddleOCR's en_dict.txt (95 entries,
    the last a space) gives 97 classes with ``use_space_char``.
    """
    return (BLANK, *entries, *((" ",) if use_space_char else ()))


def labels_for(config: Config, notices: Callable[[str], None] | None = None) -> tuple[str, ...]:
    """Class names in the order the net emits them.

    rec: blank "" at 0, dictionary, space; cls: Global.label_list or ("0", "180"); det: ().

    Raises:
        InputError: the dictionary cannot be found or read. ConfigError: no Architecture.
    """
    from slim.config.schema import CLS_LABELS

    if config.kind == "det":
        return ()
    if config.kind == "cls":
        return config.Global.label_list or CLS_LABELS
    asked = config.Global.character_dict_path
    path = resolve_dictionary(asked)
    if notices and asked is not None and path.parent == BUNDLED:
        notices(f"Global.character_dict_path {asked}: the bundled copy {path.name} is used")
    return ctc_labels(read_dictionary(path), config.Global.use_space_char)


def dictionaries_with(classes: int) -> list[tuple[str, bool]]:
    """Bundled dictionaries that give a head of this width: (file name, use_space_char).

    >>> dictionaries_with(97)
    [('en_dict.txt', True)]
    """
    found = []
    for name in bundled_names():
        space = classes - 1 - len(read_dictionary(BUNDLED / name))
        if space in (0, 1):
            found.append((name, bool(space)))
    return found
