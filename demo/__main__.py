"""Command line: ``python -m demo``, which `make demo` runs."""

import argparse
import json
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo import DemoError, steps
from demo.show import LEGEND, Steps, conclusion, equal, layer_rows, layer_table, report
from gobo_rtl.array_config import named_array
from gobo_rtl.cli import describe
from gobo_rtl.config import CONFIGS, named
from quant.account import bits_per_weight, total_bound
from quant.container import decode as decode_container
from quant.container import read
from quant.errors import QuantError
from quant.fit import Options
from quant.image import choose_layers, contents_path, write_image
from quant.output import replacing
from quant.show import size_text
from quant.writer import write
from sim.model import ModelError
from sim.model.fetch import MODELS, locate
from sim.model.sentence import SentenceModel, compare, sample_sentences
from sim.page import write_page
from synth import SynthError

_INTERRUPTED = 130  # the shell's number for it
ARRAY = "tiny"  # the accelerator: the whole of it, and a minute to build
SENTENCE = "Bread rises more slowly in a cold kitchen, but it tastes better for the wait."
_EXAMPLES = """examples:
  python -m demo
  python -m demo --model bert-tiny --config fp32 -o build/tiny-demo
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo", epilog=_EXAMPLES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Quantise a trained BERT to 3 bits, decode it with the simulated Verilog of "
        "the decode unit,\ncompute a layer with that of the accelerator, and compare everything. "
        "Exit status: 0, 1 when anything differs, or 2.",
    )  # fmt: skip
    parser.add_argument(
        "--model", choices=list(MODELS), default="all-minilm-l6-v2",
        help="a trained model that is fetched (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--config", choices=list(CONFIGS), default="default",
        help="the hardware (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--layers", action="append", default=[], metavar="PATTERN",
        help="layers that go through the Verilog (default: every FC matrix)",
    )  # fmt: skip
    parser.add_argument(
        "--liberty", type=Path, metavar="FILE",
        help="cell library of the area (default: open SkyWater 130 nm areas)",
    )  # fmt: skip
    parser.add_argument(
        "--report", type=Path, metavar="FILE.md",
        help="also write a page with the table and all it takes to repeat it",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/demo"), metavar="DIR",
        help="where files go (default: %(default)s)",
    )  # fmt: skip
    return parser


def run(options: argparse.Namespace) -> bool:
    """Do the main job; return whether everything that was compared is equal."""
    begun = time.monotonic()
    tool = steps.simulator()
    show = Steps(9)
    folder, config, array = options.output, named(options.config), named_array(ARRAY)
    folder.mkdir(parents=True, exist_ok=True)
    container_path = folder / f"{options.model}.gobo.safetensors"
    image_path = folder / f"{options.model}.{options.config}.bin"
    summary_path = folder / "summary.json"
    summary_path.unlink(missing_ok=True)  # that of an earlier run, should this one not end

    with show.step("model") as step:
        model = locate(options.model)
        source, choices = steps.plan(model)
        sha256 = source.sha256()
        if sha256 != MODELS[options.model].sha256:
            raise DemoError(f"{model}: sha256 is {sha256}, not {MODELS[options.model].sha256}")
        step.tell(f"{options.model}: {len(source.tensors)} tensors, sha256 {sha256[:16]}... as "
                  "pinned")  # fmt: skip

    chosen = [choice for choice in choices if choice.bits is not None]
    how = Options(value_format=config.value_format)
    with show.step("quantise", len(chosen)) as step:
        layers = steps.quantise(source, choices, how, step.done)
        weights = sum(source.tensors[choice.name].size for choice in chosen)
        step.tell(f"{len(chosen)} matrices, {weights:,} weights, to {steps.BITS} bits with "
                  f"{how.value_format} values; outliers {how.rule}")  # fmt: skip

    with show.step("container", len(source.tensors) + len(choices)) as step:
        write(container_path, source, choices, how, force=True, done=step.done)
        container = read(container_path)
        summaries = container.summaries()
        container_wrong = steps.container_mismatches(container, source, layers, step.done)
        del layers
        step.tell(f"{container_path}: {size_text(container.file_bytes)}")
        step.tell(f"read back, {weights:,} weights compared with the quantiser's: "
                  f"{container_wrong:,} mismatches")  # fmt: skip

    names = choose_layers(container, options.layers)
    with show.step("image", len(names)) as step:
        contents = write_image(
            image_path, container, names, config, options.config, force=True, done=step.done
        )
        size = contents["header"]["file_bytes"]
        biases = sum(layer["bias_bytes"] for layer in contents["layers"])
        packed = sum(container.layer(name).size for name in names)
        step.tell(f"{image_path}: {size_text(size)}, {len(names)} layers, "
                  f"{8 * (size - biases) / packed:.3f} bits a weight, and biases")  # fmt: skip
        step.tell(f"{contents_path(image_path)}: its table of contents")

    with show.step("Verilog") as step:
        verilog = steps.emit(options.config, "decode", folder)
        step.tell(f"{verilog}: {describe(config)}")
        array_verilog = steps.emit(ARRAY, "accelerator", folder)
        step.tell(f"{array_verilog}: {describe(array)}")

    with show.step("simulate") as step:
        rtl = steps.decode(config, image_path, container, folder / "sim", tool)
        words, rtl_wrong = sum(rtl.words.values()), sum(rtl.mismatches.values())
        step.tell(f"{len(names)} layers through the Verilog on {tool}: {rtl.cycles:,} cycles")
        step.tell(f"{words:,} words compared with the container's weights: {rtl_wrong:,} "
                  "mismatches")  # fmt: skip

    computed = None
    with show.step("compute") as step:
        sample = steps.sample(model, SENTENCE, names, array.max_inputs)
        if missing := steps.compiler():
            step.tell(f"LEFT OUT: the accelerator is simulated by Verilator, which needs {missing}")
        elif sample is None:
            step.tell(f"LEFT OUT: no layer that was chosen has {array.max_inputs} inputs or fewer")
        else:
            layer_path = folder / f"{options.model}.accelerator.bin"
            write_image(layer_path, container, [sample.layer], array, ARRAY, force=True)
            computed = steps.compute(
                array, sample, container, layer_path, array_verilog, folder / "sim"
            )
            step.tell(f"{sample.layer} on {len(sample.acts)} tokens of a sentence through the "
                      f"accelerator's Verilog: {computed.cycles:,} cycles")  # fmt: skip
            step.tell(f"{computed.words:,} words compared with the golden model's: "
                      f"{computed.mismatches:,} mismatches")  # fmt: skip
            step.tell(
                f"off by {computed.error:.2%} from FP32 with the model's own weights, by "
                f"{computed.arithmetic_error:.4%} from FP32 with the 3-bit weights"
            )

    with show.step("area") as step:
        area = steps.area(options.config, folder, folder / "synth", options.liberty)
        step.tell(f"{area.um2:,.0f} um2 in {area.library}, {area.um2 / config.lanes:,.0f} a lane")

    with show.step("sentences") as step:
        sentences = sample_sentences()
        plain = SentenceModel.load(model)
        coarse = SentenceModel.load(model, decode_container(container))
        cosines = compare(plain, coarse, sentences)
        step.tell(f"{len(sentences)} sentences in FP32 and in {steps.BITS} bits: cosine "
                  f"{cosines.mean():.4f} on average, {cosines.min():.4f} at least")  # fmt: skip

    bits = bits_per_weight(container.file_bytes, container.stored_bytes, summaries)
    summary: dict[str, Any] = {
        "model_sha256": sha256,
        "weights": weights,
        "outlier_share": sum(layer.outlier_count for layer in summaries) / weights,
        "bits_per_weight": bits,
        "bound_bits_per_weight": total_bound(summaries),
        "ratio_fp32": 32 / bits,
        "container_mismatches": container_wrong,
        "rtl_words_compared": words,
        "rtl_mismatches": rtl_wrong,
        "rtl_cycles": rtl.cycles,
        "accelerator_words_compared": computed and computed.words,
        "accelerator_mismatches": computed and computed.mismatches,
        "accelerator_cycles": computed and computed.cycles,
        "accelerator_error": computed and computed.error,
        "decoder_area_um2": area.um2,
        "area_library": area.library,
        "embedding_cosine_mean": float(cosines.mean()),
        "embedding_cosine_min": float(cosines.min()),
        "seconds": round(time.monotonic() - begun, 1),
    }
    with replacing(summary_path, force=True) as file:
        file.write((json.dumps(summary, indent=1) + "\n").encode())
    rows = layer_rows(summaries, rtl.words, rtl.mismatches)
    show.say("")
    show.console.print(layer_table(rows))
    show.say("\n".join(("", *LEGEND, "", *conclusion(summary))))
    show.say(f"written: {summary_path}")
    if options.report:
        title = "Demo: quantised, packed, decoded and computed in simulated Verilog, compared"
        tools = ("numpy", "amaranth", "verilator", "pyosys")
        write_page(options.report, title, report(summary, rows), options.command, tools)
        show.say(f"written: {options.report}")
    return equal(summary)


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status: 0, 1 (something differs), 2 (it could not be done)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    options.command = shlex.join(("python", "-m", "demo", *words))
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return 0 if run(options) else 1
    except (DemoError, ModelError, QuantError, SynthError) as error:
        print(f"demo: {error}", file=sys.stderr)
    except OSError as error:
        print(f"demo: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("demo: interrupted; nothing is left half-written", file=sys.stderr)
        return _INTERRUPTED
    return 2


if __name__ == "__main__":
    sys.exit(main())
