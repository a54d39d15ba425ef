"""Fields of a record out of its words."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..decode.crc import CRC32_INITIAL, CRC32_RESIDUE, crc32_next
from ..formats import Field, Record

__all__ = ["WORD", "RecordReader", "words_to"]

WORD = 16
"""Bits of a word."""


def words_to(record: Record, name: str) -> int:
    """Return the words of a record up to the end of a field."""
    field = record.field(name)
    return -(-(field.offset + field.width) // WORD)


class RecordReader(wiring.Component):
    """Takes the words of a record, keeps the fields that are wanted and checks others.

    Paper
    -----
    Our own choice: records of docs/formats.md and docs/accelerator.md.

    Parameters
    ----------
    record : Record
        The record; whole words.
    widths : dict of str to int
        Bits that are kept of each field wanted, at most the field's.
    constants : dict of str to int
        Fields that must have a value.

    Members
    -------
    start : In, 1
        The next word is the record's first.
    i : In, stream of 16 bits
        The record's words; none is taken after the last.
    last : Out, 1
        The next word is the record's last.
    done : Out, 1
        All words are taken.
    count : Out, number of a word
        Before ``done``: the words taken.
    fields : Out, the fields wanted
        Each when its words are taken, until ``start``.
    foreign : Out, 1
        The words taken have another magic.
    bad : Out, 1
        A field of the words taken has not its constant, or does not fit the bits kept: those above
        are not zero.
    crc_good : Out, 1
        With ``done``: the last four bytes are the CRC-32 of all before.

    Timing
    ------
    A word a cycle; ``done`` the cycle after the last.

    Numerics
    --------
    Fields are unsigned: of a signed field all bits are to be kept.
    """

    def __init__(self, record: Record, widths: dict[str, int], constants: dict[str, int]):
        assert record.width % WORD == 0
        self.record = record
        self.constants = {"magic": int.from_bytes(record.magic, "little"), **constants}
        self.widths = widths
        self.words = record.width // WORD
        super().__init__({
            "start": In(1),
            "i": In(stream.Signature(WORD)),
            "last": Out(1),
            "done": Out(1),
            "count": Out(range(self.words)),
            "fields": Out(data.StructLayout(widths)),
            "foreign": Out(1),
            "bad": Out(1),
            "crc_good": Out(1),
        })

    def parts(self, word: int) -> list[tuple[Field, int, slice]]:
        """Return the parts of fields in a word: field, the part's first bit, its place in the
        word."""
        found = []
        for field in self.record.fields:
            low = max(field.offset, word * WORD)
            high = min(field.offset + field.width, (word + 1) * WORD)
            if low < high:
                place = slice(low - word * WORD, high - word * WORD)
                found.append((field, low - field.offset, place))
        return found

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word, count, crc = self.i.payload, self.count, Signal(32)
        m.d.comb += [
            self.i.ready.eq(~self.done),
            self.last.eq(count == self.words - 1),
            self.crc_good.eq(crc == CRC32_RESIDUE),
        ]
        with m.If(self.start):
            m.d.sync += [
                count.eq(0), self.done.eq(0), self.foreign.eq(0), self.bad.eq(0),
                crc.eq(CRC32_INITIAL),
            ]  # fmt: skip
        with m.Elif(self.i.valid & ~self.done):
            m.d.sync += [count.eq(count + 1), crc.eq(crc32_next(crc, word))]
            m.d.sync += self.done.eq(self.last)
            with m.Switch(count):
                for n in range(self.words):
                    with m.Case(n):
                        for field, first, place in self.parts(n):
                            self._take(m, field, first, word[place])
        return m

    def _take(self, m: Module, field: Field, first: int, part: Signal) -> None:
        """Take the bits of ``field`` from bit ``first`` on."""
        if field.name in self.constants:
            known = self.constants[field.name] >> first & (1 << len(part)) - 1
            verdict = self.foreign if field.name == "magic" else self.bad
            with m.If(part != known):
                m.d.sync += verdict.eq(1)
        elif field.name in self.widths:
            room = max(0, self.widths[field.name] - first)
            with m.If(part[room:].any()):
                m.d.sync += self.bad.eq(1)
            if room:
                kept = self.fields[field.name][first : first + min(room, len(part))]
                m.d.sync += kept.eq(part)
