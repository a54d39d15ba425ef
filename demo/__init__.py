"""The main job from end to end: a trained model, quantised, decoded by the simulated Verilog."""


class DemoError(Exception):
    """What stops the demo, in a sentence for a person."""
