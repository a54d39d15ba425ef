"""The masters keep the rules of AXI4, and the registers those of AXI4-Lite.

Commands, data and the slave's pauses are arbitrary, and ``stop`` comes in any cycle. Proved for all
time: the rules of reads, of writes and of the registers, that reads drain, and that readers share a
master fairly. Checked to a bound: that writes drain, that a burst that is written has its beats,
and that a command that is read gets its own. With bursts of 4 beats, commands of at most 15.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from amaranth.hdl import Array, Cat, Mux, Signal, Value

from gobo_rtl.array_config import ARRAYS, ArrayConfig
from tests.sabotage.plant import Fault, planted_package

from .prover import Claims, bounded, prove, reach

TINY = ARRAYS["tiny"]
LENGTH = 4  # bits of a command's beats
CYCLES = 16  # in which events are seen


def source_of(name: str, fault: Fault | None = None, folder: Path | None = None) -> ModuleType:
    """Return a module of ``gobo_rtl.bus``, of a copy with ``fault`` if there is one."""
    package = "gobo_rtl" if folder is None else planted_package(fault, folder)
    return import_module(f"{package}.bus.{name}")


def commands(claims: Claims, pauses: bool = True) -> None:
    """Drive the commands of a master: whole beats, at least one and at most 15."""
    port = claims.dut.i
    beats = claims.free(LENGTH, "beats")
    address = claims.free(TINY.address_width, "address")
    claims.assume(beats != 0)
    claims.assume(address[:3] == 0)
    claims.drive(port, "i", Cat(address, beats, Signal(32 - LENGTH)), pauses=pauses)


def queue(claims: Claims, push: Value, value: Value, pop: Value, depth: int, name: str):
    """Return the head and the number of the values that were pushed and not popped."""
    places = Array(Signal(len(value), name=f"{name}_{n}") for n in range(depth))
    count = Signal(range(depth + 2), name=f"{name}_count")
    m = claims.m
    with m.If(pop):
        m.d.sync += [places[n].eq(places[n + 1]) for n in range(depth - 1)]
    place = Signal.like(count, name=f"{name}_place")
    m.d.comb += place.eq(count - pop)
    for n in range(depth):
        with m.If(push & (place == n)):
            m.d.sync += places[n].eq(value)
    m.d.sync += count.eq(Mux(claims.reset, 0, count + push - pop))
    return places[0], count


def stays(claims: Claims, name: str, valid: Value, ready: Value, payload: Value) -> None:
    """Claim that what a channel offers stays until it is taken."""
    waits = claims.before(valid & ~ready & ~claims.reset, f"{name}_waits")
    offered = claims.before(payload, f"{name}_offered")
    claims.claim(f"{name}valid stays", ~waits | valid)
    claims.claim(f"{name} stays", ~waits | (payload == offered))
    claims.event(f"{name} waits and is taken", waits & valid & ready)


def shaped(claims: Claims, config: ArrayConfig, channel: str) -> None:
    """Claim the shape of bursts."""
    axi = claims.dut.axi
    address, length, valid = (getattr(axi, channel + n) for n in ("addr", "len", "valid"))
    end = address[:12] + ((length + 1) << 3)
    claims.claim("a burst is on a beat", ~valid | (address[:3] == 0))
    claims.claim("a burst is short enough", ~valid | (length < config.burst_beats))
    claims.claim("a burst crosses no 4 KB", ~valid | (end <= 4096))
    claims.event("a burst ends at 4 KB", valid & (end == 4096))


def stopping(claims: Claims) -> Value:
    """Return ``stop``, which stays once it is there."""
    begins = claims.free(1, "stop_begins")
    stopped = Signal(name="stopped")
    claims.m.d.sync += stopped.eq(~claims.reset & claims.dut.stop)
    claims.m.d.comb += claims.dut.stop.eq(stopped | begins)
    return claims.dut.stop


def read_slave(claims: Claims, config: ArrayConfig, *, pauses: bool = True) -> Value:
    """Answer a read master's bursts in order; return how many wait for beats."""
    m, axi = claims.m, claims.dut.axi
    offer, begin = (claims.free(1, n) if pauses else 1 for n in ("r_offer", "ar_ready"))
    payload = claims.free(config.beat_width + 2, "r_fresh")
    beat = Signal(8, name="r_beat")
    waiting, kept = Signal(name="r_waiting"), Signal(len(payload), name="r_kept")
    take, end = axi.rvalid & axi.rready, Signal(name="r_end")
    length, count = queue(
        claims, axi.arvalid & axi.arready, axi.arlen, end, config.reads + 1, "bursts"
    )
    m.d.comb += [
        axi.arready.eq(begin),
        axi.rvalid.eq(~claims.reset & (count != 0) & (offer | waiting)),
        Cat(axi.rdata, axi.rresp).eq(Mux(waiting, kept, payload)),
        axi.rlast.eq(beat == length),
        end.eq(take & axi.rlast),
    ]
    m.d.sync += [
        waiting.eq(axi.rvalid & ~axi.rready & ~claims.reset), kept.eq(Cat(axi.rdata, axi.rresp)),
        beat.eq(Mux(claims.reset | end, 0, beat + take)),
    ]  # fmt: skip
    return count


def read_claims(source: ModuleType) -> Claims:
    dut = source.ReadMaster(TINY)
    claims = Claims(dut)
    commands(claims)
    count = read_slave(claims, TINY)
    m, axi = claims.m, dut.axi
    stop = stopping(claims)
    m.d.comb += dut.o.ready.eq(claims.free(1, "take"))
    stays(claims, "ar", axi.arvalid, axi.arready, Cat(axi.araddr, axi.arlen))
    shaped(claims, TINY, "ar")
    claims.claim("no more bursts than may be", count <= TINY.reads)
    claims.claim("an offered address has a place", ~axi.arvalid | (count < TINY.reads))
    claims.claim("idle is quiet", dut.idle == (~axi.arvalid & (count == 0)))
    excused = claims.free(1, "excused")
    m.d.comb += dut.excused.eq(excused)
    silent = stop | dut.error
    begun = claims.before(silent & ~axi.arvalid, "stopped_before")
    claims.claim("no address after stop or an error", ~begun | ~axi.arvalid)
    claims.claim("then beats are dropped", ~silent | (axi.rready & ~dut.o.valid))
    good = axi.rvalid & axi.rready & ((axi.rresp == 0) | excused)
    claims.claim("nothing is lost before, and nothing wrong is given",
                 silent | (good == (dut.o.valid & dut.o.ready)))  # fmt: skip
    wrong = (axi.rresp != 0) & ~excused
    failed = claims.before(axi.rvalid & axi.rready & wrong & ~claims.reset, "failed")
    failed_r = claims.before(dut.error & ~claims.reset, "error_before")
    claims.claim("an error is told and stays", dut.error == (failed | failed_r))
    claims.event("a wrong beat is excused", excused & dut.o.valid & (axi.rresp != 0))
    claims.event("all bursts are outstanding", count == TINY.reads)
    claims.event("an address waits when stop comes", begun_late(claims, stop) & axi.arvalid)
    claims.event("stopped with beats to come", stop & (count == TINY.reads))
    return claims


def begun_late(claims: Claims, stop: Value) -> Value:
    """Return whether ``stop`` came in the cycle before."""
    return claims.before(stop & ~claims.before(stop, "stop_1"), "stop_came")


def drain_claims(source: ModuleType) -> Claims:
    """After ``stop`` and with a slave that does not pause, everything is in so many cycles."""
    dut = source.ReadMaster(TINY)
    claims = Claims(dut)
    commands(claims)
    read_slave(claims, TINY, pauses=False)
    stop = stopping(claims)
    claims.m.d.comb += dut.o.ready.eq(claims.free(1, "take"))
    drains(claims, stop, TINY.reads * TINY.burst_beats + 2)
    return claims


def drains(claims: Claims, stop: Value, limit: int) -> None:
    since = Signal(range(limit + 2), name="since")
    more = Mux(since > limit, since, since + 1)
    claims.m.d.sync += since.eq(Mux(claims.reset | ~stop, 0, more))
    claims.claim("it drains", (since <= limit) | claims.dut.idle)
    claims.event("it drained", (since > 2) & claims.dut.idle)


def told_claims(source: ModuleType) -> Claims:
    """Each command gets its beats and one ``last``; beats follow each other from its address."""
    dut = source.ReadMaster(TINY)
    claims = Claims(dut)
    commands(claims)
    read_slave(claims, TINY)
    m, axi, o = claims.m, dut.axi, dut.o
    m.d.comb += o.ready.eq(claims.free(1, "take"))
    claims.assume(axi.rresp == 0)
    take = o.valid & o.ready
    accept = dut.i.valid & dut.i.ready
    beats, _ = queue(claims, accept, dut.i.payload.beats[:LENGTH], take & o.payload.last, 4, "due")
    given = Signal(LENGTH, name="given")
    m.d.sync += given.eq(Mux(claims.reset | (take & o.payload.last), 0, given + take))
    claims.claim("last with the last beat", ~take | (o.payload.last == (given + 1 == beats)))
    # Addresses: from the command at the head on, burst after burst.
    begin = axi.arvalid & axi.arready
    size = axi.arlen + 1
    asked, left = Signal(LENGTH + 1, name="asked"), Signal(LENGTH + 1, name="left")
    ends = begin & (asked + size == left)
    head, _ = queue(claims, accept, Cat(dut.i.payload.address, dut.i.payload.beats[:LENGTH]),
                    ends, 4, "to_ask")  # fmt: skip
    m.d.comb += left.eq(Value.cast(head)[TINY.address_width :])
    m.d.sync += asked.eq(Mux(claims.reset | ends, 0, Mux(begin, asked + size, asked)))
    place = (Value.cast(head)[: TINY.address_width] + (asked << 3))[: TINY.address_width]
    claims.claim("a burst begins where the one before ended", ~begin | (axi.araddr == place))
    claims.claim("no more is asked for", ~begin | (asked + size <= left))
    claims.event("a command of several bursts ends", take & o.payload.last & (given > 3))
    return claims


def write_slave(claims: Claims, limit: int, *, pauses: bool = True) -> tuple[Value, Value, Value]:
    """Answer a write master; return how many bursts wait for their responses, of how many beats
    are to come, and the length of the first of these."""
    m, axi = claims.m, claims.dut.axi
    names = ("aw_ready", "w_ready", "b_offer")
    begin, take, offer = (claims.free(1, n) if pauses else 1 for n in names)
    # A burst begins when its address is offered; its beats may come before that is taken.
    fresh = axi.awvalid & ~claims.before(axi.awvalid & ~axi.awready & ~claims.reset, "aw_old")
    ends = axi.wvalid & axi.wready & axi.wlast
    length, beats_due = queue(claims, fresh, axi.awlen, ends, limit + 1, "lengths")
    taken, written, count = (Signal(range(limit + 3), name=n) for n in ("taken", "written", "open"))
    respond = axi.bvalid & axi.bready
    waiting, kept = Signal(name="b_waiting"), Signal(2, name="b_kept")
    m.d.comb += [
        axi.awready.eq(begin), axi.wready.eq(take),
        axi.bresp.eq(Mux(waiting, kept, claims.free(2, "b_fresh"))),
        axi.bvalid.eq(~claims.reset & (taken != 0) & (written != 0) & (offer | waiting)),
    ]  # fmt: skip
    m.d.sync += [
        waiting.eq(axi.bvalid & ~axi.bready & ~claims.reset), kept.eq(axi.bresp),
        taken.eq(Mux(claims.reset, 0, taken + (axi.awvalid & axi.awready) - respond)),
        written.eq(Mux(claims.reset, 0, written + ends - respond)),
        count.eq(Mux(claims.reset, 0, count + fresh - respond)),
    ]  # fmt: skip
    return count + fresh, beats_due, length


def write_claims(source: ModuleType, *, counted: bool = False) -> Claims:
    """Claim the rules of writes; with ``counted`` also that each burst has its beats."""
    dut = source.WriteMaster(TINY)
    claims = Claims(dut)
    commands(claims)
    claims.drive(dut.i_data, "i_data")
    m, axi, limit = claims.m, dut.axi, source.WRITES
    count, beats_due, length = write_slave(claims, limit)
    stop = stopping(claims)
    word = Cat(axi.wdata, axi.wstrb)
    stays(claims, "aw", axi.awvalid, axi.awready, Cat(axi.awaddr, axi.awlen))
    stays(claims, "w", axi.wvalid, axi.wready, Cat(word, axi.wlast))
    shaped(claims, TINY, "aw")
    claims.claim("no more bursts than may be", count <= limit)
    claims.claim("beats only of bursts begun", ~axi.wvalid | (beats_due != 0))
    give = axi.wvalid & axi.wready
    if counted:
        beat = Signal(8, name="beat")
        m.d.sync += beat.eq(Mux(claims.reset | (give & axi.wlast), 0, beat + give))
        claims.claim("wlast with the last beat", ~axi.wvalid | (axi.wlast == (beat == length)))
    claims.claim("idle is quiet", dut.idle == (count == 0))
    claims.claim("what is idle has no beat to give", ~dut.idle | ~axi.wvalid)
    stopped = claims.before(stop & ~claims.reset, "stopped_before")
    begun = claims.before(stop & ~axi.awvalid, "stopped_without")
    claims.claim("no address after stop", ~begun | ~axi.awvalid)
    fresh = axi.wvalid & ~claims.before(axi.wvalid & ~axi.wready & ~claims.reset, "w_old")
    claims.claim("nothing is written after stop", ~(fresh & stopped) | (axi.wstrb == 0))
    taken = claims.before(dut.i_data.valid & dut.i_data.ready & ~claims.reset, "taken_before")
    data = Cat(dut.i_data.payload.data, dut.i_data.payload.keep)
    same = word == claims.before(data, "data_before")
    claims.claim("what is taken is written", ~taken | (fresh & same))
    claims.claim("what is written was taken", ~fresh | taken | stopped)
    failed = claims.before(axi.bvalid & axi.bready & (axi.bresp != 0) & ~claims.reset, "failed")
    failed_r = claims.before(dut.error & ~claims.reset, "error_before")
    claims.claim("an error is told and stays", dut.error == (failed | failed_r))
    claims.event("beats come before their address is taken", give & axi.awvalid & ~axi.awready)
    claims.event("three bursts wait", count == 3)
    claims.event("a beat waits when stop comes", begun_late(claims, stop) & axi.wvalid)
    return claims


def write_drain_claims(source: ModuleType) -> Claims:
    dut = source.WriteMaster(TINY)
    claims = Claims(dut)
    commands(claims)
    claims.drive(dut.i_data, "i_data")
    write_slave(claims, source.WRITES, pauses=False)
    drains(claims, stopping(claims), source.WRITES * TINY.burst_beats + 4)
    return claims


def lite_claims(source: ModuleType) -> Claims:
    """A response for each access, that stays until it is taken."""
    dut = source.AxiLiteSlave()
    claims = Claims(dut)
    m, axi = claims.m, dut.axi
    for channel, names in (("aw", ["awaddr"]), ("w", ["wdata", "wstrb"]), ("ar", ["araddr"])):
        payload = Cat(getattr(axi, name) for name in names)
        fresh, kept = claims.free(len(payload), f"{channel}_fresh"), Signal(len(payload))
        waiting, valid = Signal(name=f"{channel}_waiting"), getattr(axi, f"{channel}valid")
        m.d.comb += [
            valid.eq(~claims.reset & (claims.free(1, f"{channel}_offer") | waiting)),
            payload.eq(Mux(waiting, kept, fresh)),
        ]
        ready = getattr(axi, f"{channel}ready")
        m.d.sync += [waiting.eq(valid & ~ready), kept.eq(payload)]
    m.d.comb += [
        axi.bready.eq(claims.free(1, "b_ready")), axi.rready.eq(claims.free(1, "r_ready")),
        dut.value.eq(claims.free(32, "value")), dut.writable.eq(claims.free(1, "writable")),
        dut.readable.eq(claims.free(1, "readable")),
    ]  # fmt: skip
    stays(claims, "b", axi.bvalid, axi.bready, axi.bresp)
    stays(claims, "r", axi.rvalid, axi.rready, Cat(axi.rdata, axi.rresp))
    counts = {name: Signal(3, name=f"{name}_count") for name in ("aw", "w", "ar")}
    for name, answer in (("aw", "b"), ("w", "b"), ("ar", "r")):
        valid, ready = getattr(axi, f"{name}valid"), getattr(axi, f"{name}ready")
        told = getattr(axi, f"{answer}valid") & getattr(axi, f"{answer}ready")
        count = counts[name]
        m.d.sync += count.eq(Mux(claims.reset, 0, count + (valid & ready) - told))
        claims.claim(f"{answer} answers an {name}", ~getattr(axi, f"{answer}valid") | (count != 0))
        claims.claim(f"at most 2 {name} without an answer", count <= 2)
    wrote = claims.before(dut.write & ~claims.reset, "wrote")
    claims.claim("a write happens once and is answered", ~wrote | axi.bvalid)
    both = (counts["aw"] != 0) & (counts["w"] != 0) & ~axi.bvalid
    claims.claim("a write does not wait", ~both | dut.write)
    claims.event("address before data", axi.bvalid & claims.before(axi.awready & ~axi.wready, "d"))
    claims.event("a write waits for the answer before", axi.bvalid & (counts["aw"] == 2))
    return claims


def share_claims(source: ModuleType) -> Claims:
    """Each of two readers gets the beats of its own commands; bit 3 of an address tells whose."""
    dut = source.ReadArbiter(TINY, 2)
    claims = Claims(dut)
    m, read = claims.m, dut.o_read
    for n, port in enumerate(dut.i_read):
        claims.drive(port, f"i_read{n}")
        claims.assume(port.payload.address[3] == n)
    m.d.comb += read.ready.eq(claims.free(1, "read_ready"))
    end = dut.i.valid & dut.i.ready & dut.i.payload.last
    owner, count = queue(claims, read.valid & read.ready, read.payload.address[3:4], end, 5, "owed")
    claims.drive(dut.i, "i", more=count != 0)
    claims.keeps_rules(read, "o_read")
    for n, port in enumerate(dut.o):
        m.d.comb += port.ready.eq(claims.free(1, f"take{n}"))
        claims.claim(f"reader {n} gets its own", port.valid == (dut.i.valid & (owner == n)))
        same = Value.cast(port.payload) == Value.cast(dut.i.payload)
        claims.claim(f"reader {n} gets the beat", ~port.valid | same)
        claims.event(f"reader {n} waits for the other", port.valid & (count > 1) & end)
        accept = dut.i_read[n].valid & dut.i_read[n].ready
        # A command that waits is taken after one of the other reader's, at most.
        waits = dut.i_read[n].valid & ~accept
        others = dut.i_read[1 - n].valid & dut.i_read[1 - n].ready
        passed = Signal(name=f"passed{n}")
        m.d.sync += passed.eq(~claims.reset & waits & (passed | others))
        claims.claim(f"reader {n} is not passed twice", ~(passed & waits & others))
    drops = Cat(claims.free(1, f"drop{n}") for n in range(2))
    m.d.comb += [dut.excused[n].eq(drops[n]) for n in range(2)]
    claims.claim("a reader that drops excuses its own", ~dut.i.valid | (
        dut.o_excused == Mux(owner == 1, drops[1], drops[0])
    ))  # fmt: skip
    taken = Mux(owner == 1, dut.o[1].ready, dut.o[0].ready)
    claims.claim("a beat is taken by its reader", ~dut.i.valid | (dut.i.ready == taken))
    claims.event("four commands wait for beats", count == 4)
    return claims


Maker = Callable[[ModuleType], Claims]
PROVED: dict[str, tuple[Maker, str]] = {
    "reads": (read_claims, "read_master"),
    "writes": (write_claims, "write_master"),
    "reads drain": (drain_claims, "read_master"),
    "shared reads": (share_claims, "read_arbiter"),
    "registers": (lite_claims, "axi_lite"),
}
BOUNDED: dict[str, tuple[Maker, str, int]] = {  # with so many cycles
    "beats of writes": (partial(write_claims, counted=True), "write_master", 10),
    "beats of commands": (told_claims, "read_master", 9),
    "writes drain": (write_drain_claims, "write_master", 24),
}
FAULTS: dict[str, tuple[str, Fault, str]] = {
    "an offered address is taken back": ("reads", Fault(
        "ar", "gobo_rtl/bus/read_master.py", "with m.Elif(axi.arready):",
        "with m.Elif(axi.arready | self.stop):",
    ), "arvalid stays"),
    "one burst too many": ("reads", Fault(
        "reads", "gobo_rtl/bus/read_master.py", "(waiting < reads)", "(waiting <= reads)",
    ), "an offered address has a place"),
    "a burst over 4 KB": ("reads", Fault(
        "burst", "gobo_rtl/bus/axi.py", "room.eq(beats - (place & (beats - 1)))", "room.eq(beats)",
    ), "a burst crosses no 4 KB"),
    "a read begins after stop": ("reads", Fault(
        "stop", "gobo_rtl/bus/read_master.py", "bursts.o.ready.eq(~silent & ",
        "bursts.o.ready.eq(",
    ), "no address after stop or an error"),
    "a wrong beat is given": ("reads", Fault(
        "wrong", "gobo_rtl/bus/read_master.py", "eq(axi.rvalid & ~bad", "eq(axi.rvalid",
    ), "nothing is lost before, and nothing wrong is given"),
    "a wrong beat is excused always": ("reads", Fault(
        "excused", "gobo_rtl/bus/read_master.py", "(axi.rresp != OKAY) & ~self.excused",
        "(axi.rresp != OKAY) & self.excused",
    ), "nothing is lost before, and nothing wrong is given"),
    "a beat that waits is emptied": ("writes", Fault(
        "strobe", "gobo_rtl/bus/write_master.py", "m.d.sync += axi.wvalid.eq(0)",
        "m.d.sync += axi.wvalid.eq(0)\n        with m.If(stop & axi.wvalid & ~axi.wready):\n"
        "            m.d.sync += axi.wstrb.eq(0)",
    ), "w stays"),
    "wlast one early": ("beats of writes", Fault(
        "wlast", "gobo_rtl/bus/write_master.py", "last.eq(count == lengths.r_data)",
        "last.eq(count + 1 == lengths.r_data)",
    ), "wlast with the last beat"),
    "results are written after stop": ("writes", Fault(
        "after", "gobo_rtl/bus/write_master.py", "Mux(stop, 0, i_data.payload.keep)",
        "i_data.payload.keep",
    ), "nothing is written after stop"),
    "a reader comes first always": ("shared reads", Fault(
        "turn", "gobo_rtl/bus/read_arbiter.py", "(n + 1 + offset) % count", "offset",
    ), "reader 1 is not passed twice"),
    "beats of another": ("shared reads", Fault(
        "owner", "gobo_rtl/bus/read_arbiter.py", "self.i.ready & self.i.payload.last",
        "self.i.payload.last",
    ), "reader 0 gets its own"),
    "one that drops excuses the other": ("shared reads", Fault(
        "excuse", "gobo_rtl/bus/read_arbiter.py", "self.o_excused.eq(self.excused[n])",
        "self.o_excused.eq(self.excused[0])",
    ), "a reader that drops excuses its own"),
    "an answer is overwritten": ("registers", Fault(
        "answer", "gobo_rtl/bus/axi_lite.py", "axi.arready.eq(~axi.rvalid | axi.rready)",
        "axi.arready.eq(1)",
    ), "r stays"),
    "a burst is left without beats": ("writes drain", Fault(
        "drain", "gobo_rtl/bus/write_master.py", "free & (i_data.valid | stop)",
        "free & i_data.valid",
    ), "it drains"),
    "last with every burst": ("beats of commands", Fault(
        "last", "gobo_rtl/bus/read_master.py", "axi.rlast & ends[0]", "axi.rlast",
    ), "last with the last beat"),
}  # fmt: skip


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if name == "writes" else name for name in PROVED
])
def test_the_rules_hold_for_ever(name: str, tmp_path: Path) -> None:
    maker, file = PROVED[name]
    claims = maker(source_of(file))
    verdict = prove(claims, tmp_path)
    assert verdict.holds, verdict
    assert set(reach(claims, tmp_path, CYCLES)) == set(claims.events)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDED)
def test_no_counterexample_to_a_bound(name: str, tmp_path: Path) -> None:
    maker, file, cycles = BOUNDED[name]
    claims = maker(source_of(file))
    verdict = bounded(claims, tmp_path, cycles)
    assert verdict.holds, verdict
    assert set(reach(claims, tmp_path, CYCLES)) == set(claims.events)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    kind, fault, broken = FAULTS[name]
    maker, file, *_ = {**PROVED, **BOUNDED}[kind]
    verdict = bounded(maker(source_of(file, fault, tmp_path)), tmp_path / "proof", 40)
    assert verdict.holds is False and verdict.broken == broken, verdict
