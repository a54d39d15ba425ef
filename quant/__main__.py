"""Run with ``python -m quant``: errors become a sentence and an exit status."""

import os
import signal
import sys
from collections.abc import Sequence

import click

from .cli import cli
from .errors import QuantError

__all__ = ["main"]

_INTERRUPTED = 130  # the shell's number for it


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0, 1 (a check failed), 2 (bad input), or 130 when it was interrupted.
    """
    signal.signal(signal.SIGTERM, _terminated)
    try:
        result = cli.main(
            None if arguments is None else list(arguments), prog_name="python -m quant",
            standalone_mode=False,
        )  # fmt: skip
        return int(result or 0)
    except click.ClickException as error:
        error.show()
    except QuantError as error:
        click.echo(f"error: {error}", err=True)
    except BrokenPipeError:  # as in `inspect FILE | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        click.echo(f"error: {error}", err=True)
    except MemoryError:
        click.echo("error: there is not enough memory for a tensor of this model", err=True)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing is left half-written", err=True)
        return _INTERRUPTED
    return 2


if __name__ == "__main__":
    sys.exit(main())
