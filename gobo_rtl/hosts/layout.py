"""Payload layouts of the streams in a host, docs/hosts.md."""

from amaranth.lib import data

from ..formats import VALUE_FORMATS
from ..host_config import HostConfig

__all__ = ["FP16", "FP32", "ActWordLayout"]

FP16, FP32 = VALUE_FORMATS["fp16"], VALUE_FORMATS["fp32"]


class ActWordLayout(data.StructLayout):
    """Activations of some neighbouring inputs, of as many tokens as a word has.

    ``uses`` says which of its inputs are in the matrix, ``slot`` which tokens' word it is, ``done``
    whether it is their last in the weight tile. ``begins`` and ``ends`` are with the first and last
    word of a weight tile, ``first`` with all words of the pass's first one, ``last`` with the last
    word of the pass. ``tokens`` is how many the pass has.
    """

    def __init__(self, config: HostConfig):
        token = data.ArrayLayout(FP16.width, config.act_word)
        super().__init__({
            "values": data.ArrayLayout(token, config.act_banks), "uses": config.act_word,
            "slot": config.slot_bits, "done": 1, "begins": 1, "ends": 1, "first": 1, "last": 1,
            "tokens": range(config.tokens + 1),
        })  # fmt: skip
