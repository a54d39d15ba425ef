"""The self-test on a ULX3S with an ECP5-85F."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from .selftest import SelfTest

__all__ = ["Board", "platform"]

LEDS = ("running", "passed", "failed")
"""What LEDs 0, 1, ... show."""

BUTTONS = ("again", "plant")
"""What buttons FIRE1, FIRE2 do."""


class Board(wiring.Component):
    """A self-test with the board's LEDs, buttons and serial line.

    Paper
    -----
    None: docs/fpga.md has the pins.

    Parameters
    ----------
    selftest : SelfTest
        For the board's clock.

    Members
    -------
    None: pins are asked of the platform.

    Timing
    ------
    Buttons act 2 cycles later.

    Numerics
    --------
    None.
    """

    def __init__(self, selftest: SelfTest):
        self.selftest = selftest
        super().__init__({})

    def elaborate(self, platform: ULX3S_85F_Platform) -> Module:
        m = Module()
        m.submodules.selftest = selftest = self.selftest
        for n, name in enumerate(LEDS):
            m.d.comb += platform.request("led", n).o.eq(getattr(selftest, name))
        for n, name in enumerate(BUTTONS):
            pressed = Signal(name=f"{name}_pressed")
            m.submodules[name] = FFSynchronizer(platform.request("button_fire", n).i, pressed)
            m.d.comb += getattr(selftest, name).eq(pressed)
        m.d.comb += platform.request("uart").tx.o.eq(selftest.tx)
        return m


def platform() -> ULX3S_85F_Platform:
    """Return the board, as Amaranth builds for it."""
    return ULX3S_85F_Platform()
