"""The file of a learned model: named arrays and text in one safetensors file, checked by a digest, replaced whole.

Anything that reads safetensors can open it. Loading runs no code from the file.
"""

import hashlib
import json
import os
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_em.errors import InputError, OutsideError
from stream_em.version import __version__

FORMAT = "stream_em"
VERSION = 1
Tensors = dict[str, npt.NDArray[Any]]


def write_snapshot(path: Path, metadata: dict[str, str], tensors: Tensors) -> None:
    """Write metadata and arrays: to a temporary file beside `path`, flushed to the disk, then renamed.

    Raises `OutsideError` if the file cannot be written, `InputError` if something other than a file is there.
    """
    from safetensors.numpy import save

    metadata = {
        **metadata,
        "format": FORMAT,
        "format_version": str(VERSION),
        "package_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    metadata["digest"] = _digest(metadata, arrays)
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file; name another")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(save(arrays, metadata))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutsideError(f"{path}: cannot be written: {error.strerror or error}") from None


def read_snapshot(path: Path) -> tuple[dict[str, str], Tensors]:
    """Return metadata and arrays of a snapshot.

    Raises `InputError` if the file is missing, damaged, not a snapshot, or of a later format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    damaged = InputError(f"{path}: damaged, or not a model file; use an earlier one, or fit again")
    try:
        (length,) = struct.unpack("<Q", content[:8])
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
        tensors: Tensors = load(content)
    except (struct.error, ValueError, AttributeError, RecursionError, SafetensorError):
        raise damaged from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(f"{path}: not a model of stream_em")
    version = metadata.get("format_version", "")
    if version.isdigit() and int(version) > VERSION:
        by = metadata.get("package_version", "a later version")
        raise InputError(
            f"{path}: written by stream_em {by} in format {version}; this one reads up to {VERSION}: upgrade"
        )
    if metadata.pop("digest", None) != _digest(metadata, tensors):
        raise damaged
    return metadata, tensors


def _digest(metadata: dict[str, str], tensors: Tensors) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
