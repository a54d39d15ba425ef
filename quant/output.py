"""Files that are whole or not there at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path

from .errors import QuantError, cannot_write

__all__ = ["check_free", "replacing"]


def check_free(path: Path, *, force: bool) -> None:
    """Raise ``QuantError`` unless ``path`` may be written: it is free, or a file and ``force``."""
    try:
        exists, folder = path.exists(), path.is_dir()
    except OSError as error:
        raise cannot_write(path, error) from error
    if folder:
        raise QuantError(f"{path} is a folder; name a file in it")
    if exists and not force:
        raise QuantError(f"{path} is there already; give --force to replace it")


@contextmanager
def replacing(path: Path, *, force: bool) -> Iterator[BufferedRandom]:
    """Give a new file that becomes ``path`` when the block ends, and vanishes if it fails.

    The file has a temporary name in the folder of ``path``, so that renaming it is atomic; it can
    be read as well as written.  An ``OSError`` of the block is taken for one of this file, so the
    block turns those of other files into ``QuantError``.
    """
    check_free(path, force=force)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check_free(path, force=force)
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise
