"""The decode unit: memory beats in, plain weights out."""

from .unit import DecodeUnit

__all__ = ["DecodeUnit"]
