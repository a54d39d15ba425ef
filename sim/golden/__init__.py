"""Golden models: what each block computes, bit for bit, written from ``docs/formats.md`` alone."""
