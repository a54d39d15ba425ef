"""Jobs of the queue to checked layers."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..array_config import ArrayConfig
from ..array_layout import CYCLES, EXPONENT, CommandLayout, LayerLayout
from ..decode.unpacker import Unpacker
from ..formats import ARRAY_ERRORS, JOB, JOB_FLAGS, JOB_SLOT, LAYER_DESCRIPTOR, LAYER_FLAGS
from ..layout import BeatLayout
from .codebook import CodebookReader
from .divide import Divide
from .record import WORD, RecordReader, words_to

__all__ = ["Fetch", "aligned"]


def aligned(address: Value, size: int) -> Value:
    """Return whether an address is a multiple of ``size``, a power of two."""
    return ~address[: size.bit_length() - 1].any()


class Fetch(wiring.Component):
    """Reads jobs, layer descriptors and codebooks, and checks them.

    One after the other, in words of 16 bits. The next job is read when the layer of the one before
    is taken. A codebook is asked for as soon as its address is there, before the descriptor's end:
    its beats come behind the descriptor's. If the descriptor then is wrong they are dropped, and
    what the bus answers to them does not count.

    Paper
    -----
    Our own choice: docs/accelerator.md section 5.

    Parameters
    ----------
    config : ArrayConfig
        Sizes that jobs and layers must fit.

    Members
    -------
    enable : In, 1
        Begin to fetch jobs; a job that is begun is given without it, too.
    base : In, ``address_width`` bits
        Address of the queue, a multiple of 128.
    slots : In, 16 bits
        Slots of the queue, a power of two; job ``n`` is in slot ``n`` modulo ``slots``.
    produced : In, 32 bits
        Jobs written to the queue so far, modulo 2^32.
    completed : In, 32 bits
        After a reset the first job is this one.
    now : In, 48 bits
        Cycles, for ``start``.
    o_read : Out, stream of CommandLayout
        What to read.
    i : In, stream of BeatLayout
        The beats of it; when they do not come, for a read error, it waits for its reset.
    excused : Out, 1
        The beats that are still to come are dropped: a read error among them is none. It stays
        until reset.
    o : Out, stream of LayerLayout
        The layers of the jobs, in their order.
    job : Out, 32 bits
        Number of the job that is fetched, offered or has the error.
    error_code : Out, number of ARRAY_ERRORS
        Why ``job`` is refused: ``job``, ``layer``, ``layer_crc`` or ``codebook``. It stays until
        reset, and nothing is fetched. A descriptor of another magic is ``layer`` before its sum is
        looked at, else a wrong sum is ``layer_crc`` before any field is.
    slot, tag, start : Out, ``address_width``, 32, 48 bits
        Of ``job``: its address, with ``o.valid`` or ``error_code`` its tag, and when it was
        fetched.

    Timing
    ------
    From the reset, or the layer before, to ``o.valid``: ``latency(index_width)`` cycles, and twice
    the cycles from a command to its first beat, when the other beats come in time. The codebook's
    command is ``ahead`` cycles before its first word is waited for: so much of its way is hidden,
    if the bus takes a burst beside the descriptor's.

    Numerics
    --------
    ``tiles`` is ``tokens / columns`` rounded up, ``block`` at most ``tiles``. Addresses are sums of
    the image's and an offset; one that needs more than ``address_width`` bits is refused.
    """

    has_codebook = True

    def __init__(self, config: ArrayConfig):
        self.config = config
        address = config.address_width
        super().__init__({
            "enable": In(1),
            "base": In(address),
            "slots": In(16),
            "produced": In(32),
            "completed": In(32),
            "now": In(CYCLES),
            "o_read": Out(stream.Signature(CommandLayout(config))),
            "i": In(stream.Signature(BeatLayout(config.image))),
            "excused": Out(1),
            "o": Out(stream.Signature(LayerLayout(config))),
            "job": Out(32),
            "error_code": Out(range(max(ARRAY_ERRORS.values()) + 1)),
            "slot": Out(address),
            "tag": Out(32),
            "start": Out(CYCLES),
        })

    def latency(self, index_width: int) -> int:
        """Return the cycles that a job of ``index_width`` bits takes besides those of memory."""
        values = 1 << index_width
        words = JOB.width // WORD + LAYER_DESCRIPTOR.width // WORD + values
        return words + 9 + (values - 1 if self.config.symmetric else 0)

    @property
    def ahead(self) -> int:
        """Cycles from the codebook's command to where its first word is waited for: those of the
        descriptor's words behind its offset, but for one in which the address is checked."""
        words = LAYER_DESCRIPTOR.width // WORD - words_to(LAYER_DESCRIPTOR, "codebook_offset")
        return words - 1

    def readers(self) -> tuple[RecordReader, RecordReader]:
        """Return the readers of jobs and of descriptors."""
        config, address = self.config, self.config.address_width
        beat_bits = config.beat_bytes.bit_length() - 1
        job = {
            "flags": len(JOB_FLAGS), "tag": 32, "tokens": 16, "image_address": address,
            "layer_offset": 32, "block_tiles": 16, "act_exponent": 16, "act_address": address,
            "act_stride": 32, "result_stride": 32, "result_address": address,
        }  # fmt: skip
        layer = {
            "index_width": 3, "unit_exponent": 16, "rows": 20, "columns": config.step_bits + 1,
            "tile_count": 18, "codebook_offset": address, "index_offset": address,
            "index_bytes": 32 + beat_bits, "outlier_offset": address,
            "outlier_bytes": 32 + beat_bits, "bias_offset": address,
            "weight_sum": config.weight_sum_width, "flags": len(LAYER_FLAGS),
        }  # fmt: skip
        return (
            RecordReader(JOB, job, {
                "act_format": config.act.code, "result_format": config.result.code,
            }),
            RecordReader(LAYER_DESCRIPTOR, *self.layer_fields(layer)),
        )  # fmt: skip

    def layer_fields(self, widths: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        """Return the bits that are kept of a descriptor's fields, out of ``widths``, and the fields
        that must have a value."""
        return widths, {"value_format": self.config.value.code}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, read = self.config, self.o_read
        m.submodules.words = words = Unpacker(config.beat_width, (WORD,))
        job_reader, layer_reader = self.readers()
        m.submodules.job, m.submodules.layer = job_reader, layer_reader
        m.submodules.codebook = codebook = CodebookReader(config)
        m.submodules.tiles = tiles = Divide(16, config.columns)
        wiring.connect(m, wiring.flipped(self.i), words.i)
        job, layer = job_reader.fields, layer_reader.fields

        # Addresses of the descriptor's sections, `bad` if one cannot be: a sum while the word after
        # the offset is awaited. With that word the codebook's is `placed`, and then asked for.
        wide = config.address_width
        names = ("codebook_offset", "index_offset", "outlier_offset", "bias_offset")
        places = {name: Signal(wide, name=name) for name in names}
        descriptor, offset, total = Signal(wide), Signal(wide), Signal(wide + 1)
        bad, placed, asks = Signal(), Signal(), Signal()
        m.d.comb += total.eq(job.image_address + offset)

        begin = Signal()
        m.d.comb += [
            tiles.i.eq(job.tokens),
            codebook.unit.eq(layer.unit_exponent),
            codebook.index_width.eq(layer.index_width),
            self.tag.eq(job.tag),
            *(reader.start.eq(begin) for reader in (job_reader, layer_reader, codebook)),
        ]

        def receive(reader: RecordReader | CodebookReader) -> None:
            """Give words to ``reader``."""
            m.d.comb += [
                reader.i.valid.eq(words.o.valid),
                reader.i.payload.eq(words.o.payload),
                words.o.ready.eq(reader.i.ready),
                words.enable.eq(reader.i.ready),
                words.final.eq(reader.last),
            ]

        def command(address: Value, size: int | Value) -> None:
            """Ask for ``size`` bytes."""
            m.d.comb += [
                read.valid.eq(1),
                read.payload.address.eq(address),
                read.payload.beats.eq((size + config.beat_bytes - 1) // config.beat_bytes),
            ]

        def refuse(error: str) -> None:
            m.d.sync += self.error_code.eq(ARRAY_ERRORS[error])
            m.d.comb += self.excused.eq(1)
            m.next = "error"

        m.d.sync += placed.eq(0)
        with m.If(placed):
            m.d.sync += asks.eq(self.codebook_is_readable(layer_reader) & ~bad)
        with m.If(asks):
            command(places["codebook_offset"], WORD // 8 << layer.index_width)
            m.d.sync += asks.eq(~read.ready)

        with m.FSM():
            with m.State("reset"):
                m.d.sync += self.job.eq(self.completed)
                m.next = "wait"
            with m.State("wait"):
                place = (self.job & (self.slots - 1))[:16]
                m.d.comb += begin.eq(1)
                m.d.sync += [
                    self.start.eq(self.now),
                    self.slot.eq(self.base + JOB_SLOT * place),
                ]
                with m.If(self.enable & (self.job != self.produced)):
                    m.next = "read job"
            with m.State("read job"):
                command(self.slot, JOB.size)
                with m.If(read.ready):
                    m.next = "job"
            with m.State("job"):
                receive(job_reader)
                m.d.comb += offset.eq(job.layer_offset)
                with m.If(job_reader.done):
                    good = self._job_is_good(job_reader, total)
                    m.d.sync += [descriptor.eq(total), bad.eq(~good)]
                    m.next = "check job"
            with m.State("check job"):
                m.d.comb += tiles.start.eq(1)  # done before the descriptor is
                m.next = "read layer"
                with m.If(bad):
                    refuse("job")
            with m.State("read layer"):
                command(descriptor, LAYER_DESCRIPTOR.size)
                with m.If(read.ready):
                    m.next = "layer"
            with m.State("layer"):
                receive(layer_reader)
                with m.Switch(layer_reader.count):
                    for name, place in places.items():
                        with m.Case(words_to(LAYER_DESCRIPTOR, name)):
                            m.d.comb += offset.eq(layer[name])
                            m.d.sync += [place.eq(total), bad.eq(bad | total[wide])]
                            if self.has_codebook and name == "codebook_offset":
                                m.d.sync += placed.eq(words.o.valid)  # once
                with m.If(layer_reader.last):  # it is of the sum of check: all else is there
                    m.d.sync += bad.eq(bad | ~self.layer_is_good(layer_reader))
                with m.If(layer_reader.done):
                    m.next = "codebook" if self.has_codebook else "give"
                    with m.If(layer_reader.foreign):
                        refuse("layer")
                    with m.Elif(~layer_reader.crc_good):
                        refuse("layer_crc")
                    with m.Elif(bad):
                        refuse("layer")
            with m.State("codebook"):
                receive(codebook)
                with m.If(codebook.done):
                    m.next = "give"
                    with m.If(codebook.bad):
                        refuse("codebook")
            with m.State("give"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += self.job.eq(self.job + 1)
                    m.next = "wait"
            with m.State("error"):
                m.d.comb += [self.excused.eq(1), words.skip.eq(1)]

        beat = config.beat_bytes
        flags, o = job.flags, self.o.payload
        m.d.comb += [
            o.rows.eq(layer.rows), o.inputs.eq(layer.columns), o.tokens.eq(job.tokens),
            o.strips.eq(layer.tile_count), o.tiles.eq(tiles.o),
            o.block.eq(Mux(job.block_tiles > tiles.o, tiles.o, job.block_tiles)),
            o.index_width.eq(layer.index_width), o.unit.eq(layer.unit_exponent),
            o.act_exponent.eq(job.act_exponent), o.codebook.eq(codebook.codebook),
            o.index_address.eq(places["index_offset"]),
            o.index_beats.eq(layer.index_bytes // beat),
            o.outlier_address.eq(places["outlier_offset"]),
            o.outlier_beats.eq(layer.outlier_bytes // beat),
            o.bias_address.eq(places["bias_offset"]), o.has_bias.eq(layer.bias_offset != 0),
            o.act_address.eq(job.act_address), o.act_stride.eq(job.act_stride),
            o.result_address.eq(job.result_address), o.result_stride.eq(job.result_stride),
            o.fence.eq(flags[JOB_FLAGS["fence"]]), o.resident.eq(flags[JOB_FLAGS["resident"]]),
            o.interrupt.eq(flags[JOB_FLAGS["interrupt"]]), o.tag.eq(job.tag),
            o.slot.eq(self.slot), o.start.eq(self.start),
        ]  # fmt: skip
        return m

    def _job_is_good(self, reader: RecordReader, descriptor: Value) -> Value:
        """Return whether the job is one; ``descriptor`` is the sum of image and offset."""
        job, config = reader.fields, self.config
        rows = (job.act_address, job.act_stride, job.result_address, job.result_stride)
        return Cat(
            ~reader.foreign, ~reader.bad, job.tokens != 0, job.block_tiles != 0,
            ~job.flags[JOB_FLAGS["resident"]] | (job.block_tiles == 1),
            _is_exponent(job.act_exponent),
            aligned(job.image_address, config.image.burst_bytes),
            aligned(job.layer_offset, LAYER_DESCRIPTOR.size), ~descriptor[-1],
            *(aligned(value, config.beat_bytes) for value in rows),
        ).all()  # fmt: skip

    def codebook_is_readable(self, reader: RecordReader) -> Value:
        """Return whether the descriptor is good so far, up to the codebook's offset: of a good one
        it is."""
        layer, config = reader.fields, self.config
        return Cat(
            ~reader.foreign, ~reader.bad, aligned(layer.codebook_offset, config.beat_bytes),
            Cat(layer.index_width == width for width in config.index_widths).any(),
        ).all()  # fmt: skip

    def layer_is_good(self, reader: RecordReader) -> Value:
        """Return whether the descriptor is one that the array takes."""
        layer, config = reader.fields, self.config
        strips = (layer.rows + (config.rows - 1)) >> config.row_bits
        streams = (layer.index_bytes, layer.outlier_bytes)
        sections = (layer.codebook_offset, layer.index_offset, layer.outlier_offset,
                    layer.bias_offset)  # fmt: skip
        return Cat(
            ~reader.bad, Cat(layer.index_width == width for width in config.index_widths).any(),
            _is_exponent(layer.unit_exponent), layer.rows != 0, layer.columns != 0,
            layer.columns <= config.max_inputs, layer.tile_count == strips,
            layer.flags[LAYER_FLAGS["grid"]], layer.weight_sum != 0,
            layer.flags[LAYER_FLAGS["symmetric"]] | (not config.symmetric),
            *(aligned(value, config.beat_bytes) for value in (*sections, *streams)),
            *(value != 0 for value in streams),
        ).all()  # fmt: skip


def _is_exponent(value: Value) -> Value:
    """Return whether a signed 16-bit number is an exponent: the sum of two fits the layouts."""
    return (value[EXPONENT - 2 :] == 0) | value[EXPONENT - 2 :].all()
