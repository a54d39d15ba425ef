"""The CRC-16 of a tile's groups and of its records."""

import binascii

from gobo_rtl.formats import CRC16

__all__ = ["crc16"]


def _mirror(value: int, width: int) -> int:
    """Return the ``width`` bits of ``value`` in reverse order."""
    return int(f"{value:0{width}b}"[::-1], 2)


_MIRRORED = bytes(_mirror(byte, 8) for byte in range(256))


def crc16(data: bytes, bits: int) -> int:
    """Return the CRC-16 of the first ``bits`` bits of ``data``, lowest bit of a byte first.

    ``binascii.crc_hqx`` computes this CRC with every bit order reversed (polynomial 0x1021,
    highest bit first), so whole bytes go through it mirrored and the remainder is mirrored back.
    The bits that are left, less than a byte, follow one by one.
    """
    if not 0 <= bits <= 8 * len(data):
        raise ValueError(f"bits must be in 0..{8 * len(data)}, the data's, not {bits}")
    whole, rest = divmod(bits, 8)
    seen = binascii.crc_hqx(data[:whole].translate(_MIRRORED), _mirror(CRC16.initial, 16))
    remainder = _mirror(seen, 16)
    for n in range(rest):
        bit = data[whole] >> n & 1
        remainder = remainder >> 1 ^ (CRC16.polynomial if (remainder ^ bit) & 1 else 0)
    return remainder
