"""Cuts memory beats into chunks of other sizes."""

from math import gcd

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Unpacker", "any_of", "one_hot"]


def any_of(bits: list[ValueLike]) -> Value:
    """Return the OR of any number of bits, as a balanced tree."""
    return Cat(bits).any() if bits else Const(0, 1)


def one_hot(width: int, choices: list[tuple[ValueLike, ValueLike]]) -> Value:
    """Return the value whose select is set, of (select, value) pairs of which at most one is;
    zero without one.  A plane of ANDs and a balanced tree of ORs: the smallest multiplexer of
    standard cells when its selects are shared by many bits."""
    terms = [Mux(select, value, Const(0, width)) for select, value in choices]
    while len(terms) > 1:
        terms = [
            terms[n] | terms[n + 1] if n + 1 < len(terms) else terms[n]
            for n in range(0, len(terms), 2)
        ]
    return terms[0][:width] if terms else Const(0, width)


class Unpacker(wiring.Component):
    """Cuts memory beats into chunks of other sizes, one a cycle.

    The bits of a section are read from the beat at the input where they stand; only what a beat
    has left when it no longer fills a chunk is stored, so that the beat can go in the same cycle
    and the next chunk is made of both.  Both places move in words, the greatest common
    divisor of all sizes, and few pairs of places occur: they are enumerated, and the
    multiplexers have an input for each.

    Paper
    -----
    Our own choice: docs/decisions/0001-two-linear-streams.md.

    Parameters
    ----------
    beat_width : int
        Bits in a beat.
    sizes : tuple of int
        Bits of the chunks that a section may be cut into, ascending.
    start : int
        Bits at the head of a section that are no chunks; the parent reads them from ``i``
        before the section's first chunk is taken.
    tails : bool
        Whether the last chunk of a section may have another size than the ones before, which
        then have the greatest; else all chunks of a section have one size.

    Members
    -------
    i : In, stream of data (``beat_width``), last
        Beats; ``last`` ends a row of sections.
    o : Out, stream of ``max(sizes)`` bits
        A chunk; above its size the bits mean nothing.
    size : In, number of a size
        Position in ``sizes`` of the chunk to be given, if there are several; constant while
        ``o.valid`` waits.
    final : In, 1
        This chunk is the section's last: the rest of its beat is dropped.
    skip : In, 1
        The section has no chunks: take and drop its first beat.
    enable : In, 1
        Nothing is taken or given while 0.
    last : Out, 1
        With a final chunk: the section's last beat had ``last``.
    starved : Out, 1
        The section needs another beat, but the one before had ``last``: it never comes.

    Timing
    ------
    Combinational from ``i`` to ``o``; one chunk a cycle as long as a beat is there, no bubble at
    the border of beats or sections.  A chunk wider than a beat takes the beats it needs.

    Numerics
    --------
    None: bits are moved.
    """

    def __init__(
        self, beat_width: int, sizes: tuple[int, ...], start: int = 0, *, tails: bool = False
    ):
        word = gcd(beat_width, start, *sizes)
        self.word = word
        self.words = beat_width // word
        self.takes = [size // word for size in sizes]
        self.origin = (0, start // word)
        self.tails = tails
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"data": beat_width, "last": 1}))),
            "o": Out(stream.Signature(max(sizes))),
            **({"size": In(range(len(sizes)))} if len(sizes) > 1 else {}),
            "final": In(1),
            "skip": In(1),
            "enable": In(1),
            "last": Out(1),
            "starved": Out(1),
        })

    def move(self, place: tuple[int, int], take: int) -> tuple[str, tuple[int, int]]:
        """Return where a chunk of ``take`` words comes from at ``place`` (words stored, words
        used of the beat), and the place after it: ``kept`` (all from the store), ``joined``
        (from the beat too), or ``absorb`` (not there yet: store what the beat has)."""
        stored, used = place
        have = stored + self.words - used
        if stored >= take:
            return "kept", (stored - take, used)
        if have < take:
            return "absorb", (have, 0)
        left = have - take
        return "joined", (left, 0) if left < take else (0, self.words - left)

    def places(self) -> dict[tuple[int, int], set[int]]:
        """Return every place that occurs, with the takes that occur there."""
        found: dict[tuple[int, int], set[int]] = {}

        def visit(place: tuple[int, int], take: int, steady: bool) -> None:
            if take in found.setdefault(place, set()):
                return
            found[place].add(take)
            source, after = self.move(place, take)
            if steady or source == "absorb":
                visit(after, take, steady)

        for take in self.takes[-1:] if self.tails else self.takes:
            visit(self.origin, take, True)
        if self.tails:
            for place in list(found):
                for take in self.takes[:-1]:
                    visit(place, take, False)
        return found

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, o, word = self.i, self.o, self.word
        moves = {
            (place, take): self.move(place, take)
            for place, takes in sorted(self.places().items())
            for take in sorted(takes)
        }
        names = sorted({self.origin, *(place for place, _ in moves)})
        here = {p: Signal(init=p == self.origin, name=f"at_{p[0]}_{p[1]}") for p in names}
        several = len(self.takes) > 1
        taking = {take: self.size == n if several else 1 for n, take in enumerate(self.takes)}
        depth = max((after[0] for _, after in moves.values()), default=0)
        store = [Signal(word, name=f"store{n}", reset_less=True) for n in range(depth)]
        beat = [i.payload.data.word_select(n, word) for n in range(self.words)]
        last_r = Signal()

        def where(source: str, *, beat_used_up: bool | None = None) -> Value:
            return any_of([
                here[place] & taking[take]
                for (place, take), (kind, after) in moves.items()
                if kind == source and beat_used_up in (None, after[1] == 0)
            ])

        kept, joined, absorb = (where(source) for source in ("kept", "joined", "absorb"))
        used_up = where("joined", beat_used_up=True)
        live = self.enable & ~self.starved
        transfer = o.valid & o.ready
        m.d.comb += [
            self.starved.eq(last_r & ~kept),
            o.valid.eq(live & (kept | (joined & i.valid))),
            i.ready.eq(
                self.skip | (live & (absorb | (joined & o.ready & (used_up | self.final))))
            ),
            self.last.eq(Mux(kept, last_r, i.payload.last)),
        ]

        # Word n of the chunk stands in the store or in the beat, by the place alone.
        for n in range(max(self.takes)):
            sources: dict[tuple[str, int], list[ValueLike]] = {}
            for stored, used in names:
                source = ("store", n) if n < stored else ("beat", used + n - stored)
                if source[0] == "store" or source[1] < self.words:
                    sources.setdefault(source, []).append(here[stored, used])
            m.d.comb += o.payload.word_select(n, word).eq(
                one_hot(word, [
                    (any_of(selects), {"store": store, "beat": beat}[kind][at])
                    for (kind, at), selects in sources.items()
                ])
            )  # fmt: skip

        done = self.skip | (transfer & self.final)
        advance = (transfer & ~self.final) | (live & absorb & i.valid)
        with m.If(done):
            m.d.sync += [bit.eq(place == self.origin) for place, bit in here.items()]
            m.d.sync += last_r.eq(0)
        with m.Elif(advance):
            m.d.sync += [
                bit.eq(any_of([
                    here[before] & taking[take]
                    for (before, take), (_, after) in moves.items()
                    if after == place
                ]))
                for place, bit in here.items()
            ]  # fmt: skip
            with m.If(i.valid & i.ready):
                m.d.sync += last_r.eq(i.payload.last)

        # The store: what the beat has left, or what the store has left, or both.
        for n, entry in enumerate(store):
            choices: dict[tuple[str, int], list[ValueLike]] = {}
            for (place, take), (kind, after) in moves.items():
                stored, used = place
                if n >= after[0]:
                    continue
                if kind == "kept":
                    source = ("store", n + take)
                elif kind == "joined":
                    source = ("beat", used + take - stored + n)
                else:
                    source = ("store", n) if n < stored else ("beat", used + n - stored)
                choices.setdefault(source, []).append(here[place] & taking[take])
            hold = any_of(choices.pop(("store", n), []))
            with m.If(advance & ~hold):
                m.d.sync += entry.eq(
                    one_hot(word, [
                        (any_of(selects), {"store": store, "beat": beat}[kind][at])
                        for (kind, at), selects in choices.items()
                    ])
                )  # fmt: skip
        return m
