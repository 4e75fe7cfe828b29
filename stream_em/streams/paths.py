"""Which files a source reads."""

import difflib
import glob
import os
from collections.abc import Iterable

from stream_em.errors import InputError
from stream_em.streams.bytestream import STDIN, blame, display
from stream_em.streams.formats import known_suffixes, suffix_format

Data = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def find_files(data: Data, format: str | None = None) -> list[str]:
    """Give the files that `data` (a path, a pattern, a folder, a list of these, or "-") stands for, in order.

    Raises `InputError` where nothing is found.
    """
    places = [data] if isinstance(data, str | os.PathLike) else list(data)
    if not places:
        raise InputError("no data: name at least one file, folder or pattern")
    return [path for place in places for path in _expanded(os.path.expanduser(os.fspath(place)), format)]


def _expanded(place: str, format: str | None) -> list[str]:
    if place == STDIN:
        return [place]
    if os.path.isdir(place):
        return _of_folder(place, format)
    if os.path.exists(place):
        return [place]
    if glob.has_magic(place):
        found = sorted(path for path in glob.glob(place, recursive=True) if not os.path.isdir(path))
        if not found:
            raise InputError(f"{display(place)}: no file matches this pattern; check the folder and the suffix")
        return found
    raise InputError(f"{display(place)}: there is no such file{_offer(place)}")


def _of_folder(folder: str, format: str | None) -> list[str]:
    with blame(folder):
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    paths = [os.path.join(folder, name) for name in names]
    found = [path for path in paths if os.path.isfile(path) and _is_data(path, format)]
    if not found:
        kinds = format or ", ".join(known_suffixes())
        raise InputError(f"{display(folder)}: this folder has no data files ({kinds}); name the files themselves")
    return found


def _is_data(path: str, format: str | None) -> bool:
    kind = suffix_format(path)
    return kind is not None and (format is None or kind == format)


def _offer(path: str) -> str:
    folder, name = os.path.split(path)
    if not os.path.isdir(folder or "."):
        return f", nor the folder {display(folder)}; check the path"
    with blame(folder or "."):
        near = difflib.get_close_matches(name, os.listdir(folder or "."), n=1)
    return f"; did you mean {display(os.path.join(folder, near[0]))}?" if near else "; check the path"
