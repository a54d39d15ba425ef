"""What a user did wrong, or what is wrong with his files, in one sentence."""

from os import PathLike

__all__ = ["BadFileError", "QuantError", "cannot_read", "cannot_write"]


class QuantError(Exception):
    """Bad input: the command line prints the message and exits with status 2."""


class BadFileError(QuantError):
    """A file that is not what it should be: which file, where in it, what is wrong."""

    def __init__(self, path: str | PathLike[str], where: str, what: str):
        super().__init__(f"{path}: {where}: {what}")


def cannot_read(path: str | PathLike[str], error: OSError) -> QuantError:
    """Return the error that says that and why the system did not let us read ``path``."""
    return QuantError(f"cannot read {path}: {(error.strerror or str(error)).lower()}")


def cannot_write(path: str | PathLike[str], error: OSError) -> QuantError:
    """Return the error that says that and why the system did not let us write ``path``."""
    return QuantError(f"cannot write {path}: {(error.strerror or str(error)).lower()}")
