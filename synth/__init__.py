"""Area and timing of emitted Verilog, on open cell libraries."""


class SynthError(Exception):
    """What a person has to know, in one sentence: a missing file, a design with errors."""
