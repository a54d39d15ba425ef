"""The self-test on a ULX3S with an ECP5-85F."""

from amaranth.hdl import Module, Signal
from amaranth.lib import io, wiring
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

        def pin(name: str, direction: str, port: io.PortLike) -> io.Buffer:
            m.submodules[f"{name}_pin"] = buffer = io.Buffer(direction, port)
            return buffer

        for n, name in enumerate(LEDS):
            led = pin(name, "o", platform.request("led", n, dir="-"))
            m.d.comb += led.o.eq(getattr(selftest, name))
        for n, name in enumerate(BUTTONS):
            pressed = Signal(name=f"{name}_pressed")
            button = pin(name, "i", platform.request("button_fire", n, dir="-"))
            m.submodules[name] = FFSynchronizer(button.i, pressed)
            m.d.comb += getattr(selftest, name).eq(pressed)
        m.d.comb += pin("tx", "o", platform.request("uart", dir="-").tx).o.eq(selftest.tx)
        return m


def platform() -> ULX3S_85F_Platform:
    """Return the board, as Amaranth builds for it."""
    return ULX3S_85F_Platform()
