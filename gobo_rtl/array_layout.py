"""Payload layouts of the streams in the accelerator, docs/accelerator.md."""

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data

from .array_config import ArrayConfig
from .formats import ACT_FORMATS, ARRAY_ERRORS, COMPLETION

__all__ = [
    "ActBeatLayout", "ActPassLayout", "ActStepLayout", "CommandLayout", "CompletionLayout",
    "IndexWordLayout", "LayerLayout", "OutlierEntryLayout", "OutlierWordLayout", "PassLayout",
    "ReplayLayout", "ResultBeatLayout", "ResultPassLayout", "ScaleLayout", "StepLayout",
    "SumsLayout", "WeightStepLayout", "centroid_shape",
]  # fmt: skip

CYCLES = COMPLETION.field("cycles").width
EXPONENT = 12  # bits of any power of two that an address, a unit or a sum has, sign included


def centroid_shape(config: ArrayConfig) -> Shape:
    """Return the shape of a centroid: an integer in the layer's unit, or for PEs that compute in
    floating point the bits of its value."""
    return unsigned(config.value.width) if config.floating else signed(config.grid_width)


class LayerLayout(data.StructLayout):
    """A job and its layer, checked: everything that the engines need.

    ``rows``, ``inputs`` (columns of the matrix) and ``tokens`` are counts; ``strips`` and ``tiles``
    are those of rows and tokens in the array's sizes, rounded up; ``block`` is how many token tiles
    are held at once.  Addresses are of bytes, strides in bytes.  ``slot`` is the address of the job
    and ``start`` the cycle of its fetch.
    """

    def __init__(self, config: ArrayConfig):
        address = config.address_width
        super().__init__({
            "rows": 20, "inputs": config.step_bits + 1, "tokens": 16,
            "strips": 18, "tiles": 16, "block": 16,
            "index_width": 3, "unit": signed(EXPONENT), "act_exponent": signed(EXPONENT),
            "codebook": data.ArrayLayout(centroid_shape(config), config.bins),
            "index_address": address, "index_beats": 32,
            "outlier_address": address, "outlier_beats": 32,
            "bias_address": address, "has_bias": 1,
            "act_address": address, "act_stride": 32,
            "result_address": address, "result_stride": 32,
            "fence": 1, "resident": 1, "interrupt": 1, "tag": 32, "slot": address, "start": CYCLES,
        })  # fmt: skip


class CompletionLayout(data.StructLayout):
    """How a job ended: where and when it began, and its error, 0 for none."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            "slot": config.address_width, "tag": 32, "start": CYCLES,
            "error": range(max(ARRAY_ERRORS.values()) + 1),
        })  # fmt: skip


class CommandLayout(data.StructLayout):
    """A read or a write of ``beats`` beats, at least 1, from a byte address on a beat; it becomes
    as many bursts as it takes."""

    def __init__(self, config: ArrayConfig):
        super().__init__({"address": config.address_width, "beats": 32})


class ReplayLayout(data.StructLayout):
    """What a buffer does with its next unit (a strip, or a token tile): ``mark`` where it begins;
    when it is given out, ``rewind`` to the mark, and ``release`` all up to its end."""

    def __init__(self) -> None:
        super().__init__({"mark": 1, "rewind": 1, "release": 1})


class ActPassLayout(data.StructLayout):
    """What the activations' buffer does in a pass of ``steps`` steps."""

    def __init__(self, config: ArrayConfig):
        super().__init__({"steps": config.step_bits + 1, "replay": ReplayLayout()})


class PassLayout(data.StructLayout):
    """A strip by a token tile: what the buffers do, whether it is the ``first`` of its layer, and
    where the result goes."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            "weights": ReplayLayout(), "acts": ActPassLayout(config), "first": 1,
            "result": ResultPassLayout(config),
        })  # fmt: skip


class ResultPassLayout(data.StructLayout):
    """Where a pass's sums go: ``strip`` and ``tile``, how many of the array's rows and columns are
    in the matrix, whether it is the first of its strip in a row of passes (``new_strip``: its
    biases come next, when the layer has any), and whether it is the last of its layer."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            "strip": 18, "tile": 16, "rows": config.row_bits + 1,
            "columns": range(config.columns + 1), "new_strip": 1, "has_bias": 1,
            "last": 1,
        })  # fmt: skip


class IndexWordLayout(data.StructLayout):
    """The indexes of a step, by planes; ``last`` ends the strip."""

    def __init__(self, config: ArrayConfig):
        planes = data.ArrayLayout(config.rows, config.index_width)
        super().__init__({"planes": planes, "last": 1})


class OutlierEntryLayout(data.StructLayout):
    """An outlier of a step: its row and its value as it is in memory."""

    def __init__(self, config: ArrayConfig):
        super().__init__({"valid": 1, "row": config.row_bits, "value": config.value.width})


class OutlierWordLayout(data.StructLayout):
    """Outliers of one step; ``more``: the next word is of the same step; ``last`` ends the strip,
    with or without an outlier."""

    def __init__(self, config: ArrayConfig):
        entries = data.ArrayLayout(OutlierEntryLayout(config), config.outliers_per_step)
        super().__init__({"step": config.step_bits, "more": 1, "last": 1, "entries": entries})


class WeightStepLayout(data.StructLayout):
    """A cycle of a step on the weights' side: indexes, entries, and whether the step is ``done``.

    ``plain`` is set with ``done`` only: the rows that had no entry in this or an earlier cycle of
    the step take the centroid of their index then. The cycles before carry entries alone."""

    def __init__(self, config: ArrayConfig):
        planes = data.ArrayLayout(config.rows, config.index_width)
        entries = data.ArrayLayout(OutlierEntryLayout(config), config.outliers_per_step)
        super().__init__({
            "planes": planes, "plain": 1, "entries": entries, "done": 1, "first": 1, "last": 1,
        })  # fmt: skip


class ScaleLayout(data.StructLayout):
    """A token's exponent (docs/accelerator.md section 2) and whether it holds NaN or infinity."""

    def __init__(self, config: ArrayConfig):
        super().__init__({"exponent": max(1, config.act.exponent_width), "special": 1})


class ActBeatLayout(data.StructLayout):
    """A beat of activations of one token on its way into the buffer: ``column`` of the array; with
    ``end`` the token is complete and ``scale`` is its own; ``last`` ends the token tile."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            "data": config.beat_width, "column": range(max(2, config.columns)),
            "end": 1, "scale": ScaleLayout(config), "last": 1,
        })  # fmt: skip


class ActStepLayout(data.StructLayout):
    """An activation of every column as it is in memory, with the columns' scales."""

    def __init__(self, config: ArrayConfig):
        super().__init__({
            "values": data.ArrayLayout(config.act.width, config.columns),
            "scales": data.ArrayLayout(ScaleLayout(config), config.columns),
            "last": 1,
        })  # fmt: skip


class StepLayout(data.StructLayout):
    """What enters the array in a cycle: :class:`WeightStepLayout` and :class:`ActStepLayout` of the
    same step, and what the layer is. ``last`` with the last cycle of a pass."""

    def __init__(self, config: ArrayConfig):
        weight, act = WeightStepLayout(config), ActStepLayout(config)
        super().__init__({
            "planes": weight["planes"].shape, "plain": 1, "entries": weight["entries"].shape,
            "values": act["values"].shape, "scales": act["scales"].shape,
            "first": 1, "last": 1, "index_width": 3,
            "codebook": data.ArrayLayout(centroid_shape(config), config.bins),
            "unit": signed(EXPONENT), "act_exponent": signed(EXPONENT),
        })  # fmt: skip


class SumsLayout(data.StructLayout):
    """``drain_lanes`` sums of neighbouring rows of one column; ``last`` ends the pass. They are
    integers, with the exponent of their unit and whether they mean nothing (``special``); or, of
    PEs that compute in floating point, the bits of FP32."""

    def __init__(self, config: ArrayConfig):
        integer = {"exponent": signed(EXPONENT), "special": 1}
        shape = unsigned(config.result.width) if config.floating else signed(config.acc_width)
        super().__init__({
            "sums": data.ArrayLayout(shape, config.drain_lanes),
            **({} if config.floating else integer), "last": 1,
        })  # fmt: skip


class ResultBeatLayout(data.StructLayout):
    """A beat of results, the bytes of it that count, and ``last`` of its burst."""

    def __init__(self, config: ArrayConfig):
        super().__init__({"data": config.beat_width, "keep": config.beat_bytes, "last": 1})


assert max(act.exponent_width for act in ACT_FORMATS.values()) < EXPONENT
