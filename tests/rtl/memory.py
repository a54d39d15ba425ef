"""A memory on AXI4 in Amaranth's simulator, which pauses, fails and checks the rules."""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gobo_rtl.array_config import ArrayConfig

__all__ = ["Memory"]

SLVERR = 2


@dataclass
class Burst:
    """A burst that a master has begun."""

    address: int
    beats: int


@dataclass
class Memory:
    """Bytes from address ``base`` on, with the two sides of a bus.

    ``pause`` is the share of cycles in which any channel rests, ``latency`` the least number of
    cycles from an address to its first beat, or from the last beat to its response. Addresses of
    beats in ``bad`` are answered with an error. ``reads`` and ``writes`` keep what was begun.
    """

    config: ArrayConfig
    data: bytearray
    base: int = 0
    pause: float = 0.0
    latency: int = 0
    bad: Collection[int] = ()
    seed: int = 1
    outstanding: int = 4
    reads: list[Burst] = field(default_factory=list)
    writes: list[Burst] = field(default_factory=list)
    most: int = 0
    silent: bool = False
    """Gives and takes nothing, until it is cleared."""

    def __post_init__(self) -> None:
        self.size = self.config.beat_bytes

    def word(self, address: int) -> int:
        """Return the beat at ``address``."""
        at = address - self.base
        assert 0 <= at <= len(self.data) - self.size, f"no memory at {address:#x}"
        return int.from_bytes(self.data[at : at + self.size], "little")

    def store(self, address: int, word: int, strobes: int) -> None:
        """Write the bytes of a beat that ``strobes`` select."""
        at = address - self.base
        for n in range(self.size):
            if strobes >> n & 1:
                assert 0 <= at + n < len(self.data), f"no memory at {address + n:#x}"
                self.data[at + n] = word >> 8 * n & 0xFF

    def check(self, address: int, length: int, size: int, kind: int) -> Burst:
        """Hold an address to the rules and return its burst."""
        burst = Burst(address, length + 1)
        assert 1 << size == self.size and kind == 1, "a beat is whole, a burst goes up"
        assert address % self.size == 0, f"{address:#x} is not on a beat"
        assert burst.beats <= self.config.burst_beats, f"a burst of {burst.beats} beats"
        end = address + burst.beats * self.size - 1
        assert address >> 12 == end >> 12, f"the burst at {address:#x} crosses 4 KB"
        return burst

    def dice(self, channel: int) -> Callable[[], bool]:
        """Return what tells in each cycle whether a channel rests."""
        rng = np.random.default_rng([self.seed, channel])
        return lambda: self.silent or (self.pause > 0 and bool(rng.random() < self.pause))

    async def serve_reads(self, ctx: Any, axi: Any) -> None:
        """Answer the read channels ``axi`` for ever."""
        rests, begins = self.dice(0), self.dice(1)
        due: deque[tuple[int, int, bool]] = deque()  # cycle, address, last
        bursts = now = 0
        waits: tuple[int, ...] | None = None
        while True:
            _, _, arvalid, arready, *ar, rvalid, rready = await ctx.tick().sample(
                axi.arvalid, axi.arready, axi.araddr, axi.arlen, axi.arsize, axi.arburst,
                axi.rvalid, axi.rready,
            )  # fmt: skip
            now += 1
            assert waits is None or (arvalid and tuple(ar) == waits), "an address was taken back"
            waits = tuple(ar) if arvalid and not arready else None
            if rvalid and rready:
                bursts -= due.popleft()[2]
            if arvalid and arready:
                burst = self.check(*ar)
                self.reads.append(burst)
                bursts += 1
                self.most = max(self.most, bursts)
                assert bursts <= self.outstanding, f"{bursts} bursts are outstanding"
                for n in range(burst.beats):
                    due.append((now + self.latency, burst.address + n * self.size,
                                n == burst.beats - 1))  # fmt: skip
            offered = rvalid and not rready
            if not offered:
                offer = bool(due) and due[0][0] <= now and not rests()
                ctx.set(axi.rvalid, offer)
                if offer:
                    _, address, last = due[0]
                    bad = address in self.bad  # also where there is no memory
                    ctx.set(axi.rdata, 0 if bad else self.word(address))
                    ctx.set(axi.rresp, SLVERR if bad else 0)
                    ctx.set(axi.rlast, last)
            ctx.set(axi.arready, not begins())

    async def serve_writes(self, ctx: Any, axi: Any) -> None:
        """Answer the write channels ``axi`` for ever."""
        begins, takes, answers = self.dice(2), self.dice(3), self.dice(4)
        begun: deque[Burst] = deque()  # beats are to come
        beats: deque[tuple[int, ...]] = deque()  # taken, without their address yet
        due: deque[tuple[int, int]] = deque()  # cycle, response
        count = bursts = now = error = 0
        waits: list[tuple[int, ...] | None] = [None, None]
        while True:
            _, _, awvalid, awready, *rest = await ctx.tick().sample(
                axi.awvalid, axi.awready, axi.awaddr, axi.awlen, axi.awsize, axi.awburst,
                axi.wvalid, axi.wready, axi.wdata, axi.wstrb, axi.wlast, axi.bvalid, axi.bready,
            )  # fmt: skip
            aw, (wvalid, wready), w, (bvalid, bready) = rest[:4], rest[4:6], rest[6:9], rest[9:]
            now += 1
            for n, (valid, ready, payload) in enumerate(
                ((awvalid, awready, tuple(aw)), (wvalid, wready, tuple(w)))
            ):
                assert waits[n] is None or (valid and payload == waits[n]), "an offer was changed"
                waits[n] = payload if valid and not ready else None
            if bvalid and bready:
                due.popleft()
                bursts -= 1
            if awvalid and awready:
                begun.append(self.check(*aw))
                self.writes.append(begun[-1])
                bursts += 1
                self.most = max(self.most, bursts)
                assert bursts <= self.outstanding, f"{bursts} bursts are outstanding"
            if wvalid and wready:
                beats.append(tuple(w))
            while begun and beats:
                burst, (word, strobes, last) = begun[0], beats.popleft()
                address = burst.address + count * self.size
                if address in self.bad:
                    error = SLVERR
                else:
                    self.store(address, word, strobes)
                count += 1
                assert last == (count == burst.beats), "wlast is not with the last beat"
                if last:
                    begun.popleft()
                    due.append((now + self.latency, error))
                    count = error = 0
            if not (bvalid and not bready):
                answer = bool(due) and due[0][0] <= now and not answers()
                ctx.set(axi.bvalid, answer)
                if answer:
                    ctx.set(axi.bresp, due[0][1])
            ctx.set(axi.awready, not begins())
            ctx.set(axi.wready, not takes())
