"""Pictures of the decode unit's ports, simulated: ``python -m examples.plug_in.waveform -o docs``
writes those of docs/plug-in.md."""

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from gobo_rtl.bus.axi_stream import DecodeAxis
from gobo_rtl.config import named
from quant.errors import QuantError
from quant.output import replacing
from sim import stimulus

__all__ = ["PICTURES", "main", "picture"]

SEED = 20260122
CONFIG = named("tiny")
COLUMNS = 8

Rows = dict[str, list[int | str]]
"""By port its value in each cycle: a bit, or for a bus the number of its word, "" for none."""

_INPUTS = ("codebook", "index", "outlier")


def _word(values: Sequence[int]) -> int:
    return sum(int(value) << n * CONFIG.value_width for n, value in enumerate(values))


def _layer() -> tuple[dict[str, list[int]], list[int]]:
    """Return the words of the input streams, and the groups due: a tile of eight groups, group 2
    with one outlier, group 4 with two."""
    mask = np.zeros((CONFIG.lane_rows, COLUMNS), bool)
    mask[[1, 0, 2], [2, 4, 4]] = True
    rng = np.random.default_rng(SEED)
    layer = stimulus.layer(CONFIG, rng, CONFIG.lane_rows, COLUMNS, 3, mask)
    streams = {"codebook": [_word(layer.codebook)]}
    for name, beats in (("index", layer.indexes), ("outlier", layer.outliers)):
        streams[name] = [int.from_bytes(bytes(beat), "little") for beat in beats]
    return streams, [_word(group) for group in layer.values.T]


def _trace(
    cycles: int, starts: Sequence[dict[str, Sequence[int]]], busy: Collection[int] = (),
    wrong: bool = False, clear: int = -1,
) -> Rows:  # fmt: skip
    """Return what the ports do.

    ``starts`` has for each layer by stream the cycles from which on its words are offered, ``busy``
    the cycles in which the array takes nothing, ``clear`` the one in which that is set; ``wrong``
    changes the last beat of the first layer's indexes.
    """
    streams, groups = _layer()
    dut = DecodeAxis(CONFIG)
    # Of each stream: from when on, number, data, last.
    queues: dict[str, list[tuple[int, int, int, bool]]] = {name: [] for name in _INPUTS}
    for layer, at in enumerate(starts):
        for name, words in streams.items():
            for n, (start, data) in enumerate(zip(at[name], words, strict=True)):
                last = n == len(words) - 1
                flip = int(wrong and last and name == "index" and layer == 0)
                queues[name].append((start, n, data ^ flip, last))
    rows: Rows = {"aresetn": []}
    for name in (*(f"s_axis_{name}" for name in _INPUTS), "m_axis_weight"):
        rows |= {f"{name}_{signal}": [] for signal in ("tvalid", "tready", "tdata", "tlast")}
    rows |= {name: [] for name in ("m_axis_weight_tuser", "error_code", "clear")}
    del rows["s_axis_codebook_tlast"]

    def port(name: str) -> Any:
        return getattr(dut, name)

    async def bench(ctx: Any) -> None:
        for cycle in range(cycles):
            ctx.set(dut.aresetn, cycle > 0)
            ctx.set(dut.clear, cycle == clear)
            ctx.set(dut.m_axis_weight_tready, cycle not in busy)
            shown = {}
            for name, queue in queues.items():
                there = bool(queue) and queue[0][0] <= cycle
                ctx.set(port(f"s_axis_{name}_tvalid"), there)
                shown[f"s_axis_{name}_tdata"] = str(queue[0][1]) if there else ""
                if there:
                    ctx.set(port(f"s_axis_{name}_tdata"), queue[0][2])
                if name != "codebook":
                    ctx.set(port(f"s_axis_{name}_tlast"), there and queue[0][3])
            await ctx.delay(1e-9)
            given = ctx.get(dut.m_axis_weight_tdata) if ctx.get(dut.m_axis_weight_tvalid) else None
            number = str(groups.index(given)) if given in groups else "-"
            shown["m_axis_weight_tdata"] = "" if given is None else number
            for name, values in rows.items():
                values.append(shown[name] if name in shown else int(ctx.get(port(name))))
            for name, queue in queues.items():
                if rows[f"s_axis_{name}_tvalid"][-1] and rows[f"s_axis_{name}_tready"][-1]:
                    queue.pop(0)
            ctx.set(dut.aclk, 1)
            await ctx.delay(1e-9)
            ctx.set(dut.aclk, 0)

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()
    return rows


# -- pictures --------------------------------------------------------------------------------

_LEFT, _TOP, _WIDE, _HIGH, _STEP = 190, 34, 38, 14, 23
_STYLE = (
    ".line{stroke:#333;stroke-width:1.4;fill:none}.bus{stroke:#333;fill:#fbeee0}"
    ".moves{fill:#dcebd8}.grid{stroke:#ddd}.text{font-size:11px;text-anchor:middle;fill:#111}"
    ".port{font-family:monospace;font-size:12px;text-anchor:end;fill:#222}"
)


def _draw(title: str, rows: Rows) -> str:
    """Return a picture; where a word moves, in the cycle before a rising edge, its row is green."""
    cycles = len(rows["aresetn"])
    right, below = _LEFT + cycles * _WIDE, _TOP + (len(rows) + 1) * _STEP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + 12} {below + 6}" '
        'font-family="Helvetica, Arial, sans-serif">',
        f"<title>{title}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{right + 12}" height="{below + 6}" rx="8" fill="#fff"/>',
    ]
    for n in range(cycles + 1):
        x = _LEFT + n * _WIDE
        parts.append(f'<path d="M{x} {_TOP - 8}V{below}" class="grid"/>')
        if n < cycles:
            parts.append(f'<text x="{x + _WIDE // 2}" y="{_TOP - 14}" class="text">{n}</text>')
    clock = [n % 2 == 0 for n in range(2 * cycles)]
    parts += _line("aclk", _TOP, [int(high) for high in clock], _WIDE // 2)
    for n, name in enumerate(rows, 1):
        y = _TOP + n * _STEP
        if name.endswith("_tdata"):
            stream = name.removesuffix("_tdata")
            both = zip(rows[f"{stream}_tvalid"], rows[f"{stream}_tready"], strict=True)
            parts += [
                f'<rect x="{_LEFT + cycle * _WIDE}" y="{y - 2 * _STEP - 3}" width="{_WIDE}" '
                f'height="{2 * _STEP + _HIGH + 6}" class="moves"/>'
                for cycle, (valid, ready) in enumerate(both) if valid and ready
            ]  # fmt: skip
    for n, (name, values) in enumerate(rows.items(), 1):
        y = _TOP + n * _STEP
        if name.endswith("_tdata") or name == "error_code":
            parts += _bus(name, y, [str(value) for value in values])
        else:
            parts += _line(name, y, [int(value) for value in values], _WIDE)
    return "\n".join((*parts, "</svg>")) + "\n"


def _name(name: str, y: int) -> str:
    return f'<text x="{_LEFT - 8}" y="{y + 12}" class="port">{name}</text>'


def _line(name: str, y: int, bits: Sequence[int], width: int) -> list[str]:
    """Return a signal of a bit."""
    path = f"M{_LEFT} {y + _HIGH * (1 - bits[0])}"
    for n, bit in enumerate(bits):
        path += f"V{y + _HIGH * (1 - bit)}H{_LEFT + (n + 1) * width}"
    return [_name(name, y), f'<path d="{path}" class="line"/>']


def _bus(name: str, y: int, labels: Sequence[str]) -> list[str]:
    """Return a signal of several bits: a box for as long as its word stays."""
    parts, start = [_name(name, y)], 0
    for n in range(1, len(labels) + 1):
        if n == len(labels) or labels[n] != labels[start]:
            x, wide = _LEFT + start * _WIDE, (n - start) * _WIDE
            if labels[start]:
                parts.append(
                    f'<rect x="{x + 1}" y="{y}" width="{wide - 2}" height="{_HIGH}" rx="3" '
                    f'class="bus"/><text x="{x + wide // 2}" y="{y + 11}" class="text">'
                    f"{labels[start]}</text>"
                )
            else:
                parts.append(f'<path d="M{x} {y + _HIGH // 2}h{wide}" class="line"/>')
            start = n
    return parts


def _moving() -> Rows:
    starts = {"codebook": [2], "index": [2, 12], "outlier": [2, 2, 2]}
    return _trace(20, [starts], busy=(6, 7))


def _failing() -> Rows:
    first = {"codebook": [1], "index": [1, 1], "outlier": [1, 1, 1]}
    again = {"codebook": [17], "index": [17, 17], "outlier": [17, 17, 17]}
    return _trace(24, [first, again], wrong=True, clear=15)


PICTURES = {
    "plug-in.svg": ("A tile through the ports of the decode unit", _moving),
    "plug-in-error.svg": ("A tile with a wrong bit, and how to go on", _failing),
}


def picture(name: str) -> str:
    """Return the text of a picture."""
    title, rows = PICTURES[name]
    return _draw(title, rows())


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.plug_in.waveform", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", required=True)
    folder = parser.parse_args(arguments).output
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in PICTURES:
            with replacing(folder / name, force=True) as file:
                file.write(picture(name).encode())
            print(folder / name)
    except QuantError as error:
        print(f"waveform: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"waveform: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
