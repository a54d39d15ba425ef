"""The streams of a layer, asked for as often as its token tiles need them."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import stream

__all__ = ["ask_for_runs"]


def ask_for_runs(
    m: Module, i_layer: stream.Interface, reads: Sequence[stream.Interface],
    others: Sequence[tuple[Value, Value]], step: ValueLike, once: ValueLike = 0,
) -> None:  # fmt: skip
    """Give a command for each of a layer's streams, once for every ``step`` of its token tiles, or
    ``once`` in all, and take the layer with the last of them.

    ``i_layer`` is a stream of LayerLayout; ``reads`` are streams of CommandLayout, of the indexes
    and of the outliers when there are two. ``others`` are valid and ready of what is to be told of
    a run beside its commands. Each gets a run when it is ready, all of them one run before any has
    the next; a run a cycle while all are ready.
    """
    layer = i_layer.payload
    takes = Cat(*(read.ready for read in reads), *(ready for _, ready in others))
    tile = Signal.like(layer.tiles)
    given = Signal(len(takes))  # of this run
    after = tile + step
    final = once | (after >= layer.tiles)
    begun = Mux(i_layer.valid, given | takes, 0)
    for n, (valid, _) in enumerate(others, len(reads)):
        m.d.comb += valid.eq(i_layer.valid & ~given[n])
    m.d.comb += i_layer.ready.eq(begun.all() & final)
    for n, (read, name) in enumerate(zip(reads, ("index", "outlier"), strict=False)):
        m.d.comb += [
            read.valid.eq(i_layer.valid & ~given[n]),
            read.payload.address.eq(layer[f"{name}_address"]),
            read.payload.beats.eq(layer[f"{name}_beats"]),
        ]
    m.d.sync += given.eq(Mux(begun.all(), 0, begun))
    with m.If(begun.all()):
        m.d.sync += tile.eq(Mux(final, 0, after))
