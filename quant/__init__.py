"""The quantiser: a trained model's weights to outliers, centroids and indexes, and back."""

from .fit import Layer, Options, OutlierRule, decode, quantise

__all__ = ["Layer", "Options", "OutlierRule", "decode", "quantise"]
