"""How functions become machine code: `kernel` compiles and caches, `generic` chooses a function by its model's type.

This is the only file that needs to be read with numba in mind. Everything else is plain NumPy code, and runs as such
with NUMBA_DISABLE_JIT=1; then numba, which takes a second, is not even imported.
"""

import hashlib
import inspect
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

COMPILES = os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"
if COMPILES:
    import numba
    from numba import types
    from numba.extending import overload

F = TypeVar("F", bound=Callable[..., Any])

PACKAGE = Path(__file__).parents[1]
COMPILED = ("kernels", "emissions", "models", "em.py")

# `contract` lets multiply-adds fuse. NaN means "missing" here, so nothing may assume that there are none; sums are
# reordered only where a kernel asks for it, because the exponential relies on (x + c) - c.
FASTMATH = {"contract", "nsz"}


def source_digest() -> str:
    """Return a digest of every source file that machine code is made from."""
    digest = hashlib.sha256()
    for name in COMPILED:
        root = PACKAGE / name
        for path in [root] if root.is_file() else sorted(root.glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> str:
    """Return the folder of compiled code: $STREAM_EM_CACHE_DIR or the user's cache, then the digest of the sources.

    numba does not see that a callee in another file has changed; a folder per digest makes stale code impossible. A
    folder that cannot be written, such as that of a read-only image, numba does not even read: then it is a copy of it.
    """
    chosen = os.environ.get("STREAM_EM_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(chosen) if chosen else Path(home) / "stream_em"
    folder = folder / source_digest()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return str(folder if os.access(folder, os.W_OK) else _writable_copy(folder))


def _writable_copy(folder: Path) -> Path:
    """Return a folder of temporary files with what is in another, if that is there."""
    home = Path(tempfile.gettempdir()) / f"stream_em-{os.getuid()}"
    if not _is_ours(home):
        # Anybody can have made it, and machine code is loaded from there: rather compile anew.
        return Path(tempfile.mkdtemp(prefix="stream_em-"))
    copy = home / folder.name
    part = copy.with_name(f"{copy.name}.{os.getpid()}")
    if folder.is_dir() and not copy.exists():
        with suppress(OSError):
            shutil.copytree(folder, part)
            for each in (part, *part.iterdir()):
                each.chmod(0o700)
            part.rename(copy)
        shutil.rmtree(part, ignore_errors=True)
    return copy


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder, made if it is not there, can be written by nobody else."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


_CACHE_FOLDER = cache_folder()


def kernel(function: F | None = None, *, reassociate: bool = False) -> Any:
    """Compile `function` on first use, release the GIL while it runs, keep the machine code for the next process."""
    if function is None:
        return lambda later: kernel(later, reassociate=reassociate)
    if not COMPILES:
        return function
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = _CACHE_FOLDER
    try:
        return numba.njit(cache=True, **_options(reassociate))(function)
    finally:
        config.CACHE_DIR = before


def _options(reassociate: bool) -> Any:
    fastmath = FASTMATH | {"reassoc", "arcp"} if reassociate else FASTMATH
    return {"nogil": True, "error_model": "numpy", "fastmath": fastmath}


class Generic(Protocol):
    """A function whose implementation is chosen by the type of its first argument."""

    def __call__(self, model: Any, *arguments: Any) -> Any:
        """Call the implementation for the model's type."""

    def register(self, model_type: type) -> Callable[[F], F]:
        """Return a decorator that makes a function the implementation for a model type."""


def generic(stub: F) -> Generic:
    """Make `stub` a function that each model type implements: `@stub.register(ModelType)`.

    Models are NamedTuples; the type of the first argument decides, at compile time in compiled code and by a look-up
    in Python. The body of `stub` is the default, for types that registered nothing.
    """
    implementations: dict[type, Callable[..., Any]] = {}

    def dispatch(model: Any, *arguments: Any) -> Any:
        return implementations.get(type(model), stub)(model, *arguments)

    def choose(model: Any, *_: Any) -> Callable[..., Any] | None:
        if not isinstance(model, types.NamedTuple | types.NamedUniTuple):
            return None
        return implementations.get(model.instance_class, stub)

    def register(model_type: type) -> Callable[[F], F]:
        def remember(implementation: F) -> F:
            implementations[model_type] = implementation
            return implementation

        return remember

    dispatch.__name__ = stub.__name__
    dispatch.__doc__ = stub.__doc__
    dispatch.__wrapped__ = stub  # type: ignore[attr-defined]
    dispatch.register = register  # type: ignore[attr-defined]
    if COMPILES:
        choose.__signature__ = inspect.signature(stub)  # type: ignore[attr-defined]
        overload(dispatch, jit_options=_options(False))(choose)
    return cast(Generic, dispatch)
