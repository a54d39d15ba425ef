"""``python -m bench``: one thread, so that a second of CPU is a second of one core."""

import os


def main() -> None:
    """Run the benchmark of the quantiser."""
    for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{library}_NUM_THREADS"] = "1"  # read when numpy and the peers are imported
    from bench import bench_quant

    bench_quant.main()


main()
