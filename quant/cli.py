"""The command line of the quantiser."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gobo_rtl.array_config import ARRAYS, ArrayConfig, named_array
from gobo_rtl.changes import changed, suffix
from gobo_rtl.config import CONFIGS, GoboConfig, named
from gobo_rtl.formats import VALUE_FORMATS

from .account import bits_per_weight, predicted_bytes, total_bound
from .container import read
from .export import export, export_state_dict
from .image import choose_layers, contents_path, write_image
from .options import plan, quantiser_options
from .output import check_free
from .selection import Choice
from .show import layer_table, print_table, progress, say, shape_text, size_text
from .source import Source, open_model
from .tensorfile import DTYPE_BITS
from .verify import verify
from .writer import write

__all__ = ["cli"]

_EXPECTED_SHARE = 0.003  # of outliers, where the rule does not say: what trained BERTs have

_out = click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write."
)
_force = click.option("--force", is_flag=True, help="Replace the output if it is there already.")
_container = click.argument("container", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Quantise a trained transformer to 2, 3 or 4 bits a weight with GOBO, and look at the result.

    \b
    Example:
      python -m quant quantize path/to/model -o model.gobo.safetensors
    """


@cli.command()
@click.argument("model")
@_out
@quantiser_options
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True,
              help="Layers at a time; memory grows with it.")  # fmt: skip
@_force
def quantize(model: str, output: Path, jobs: int, force: bool, **given: Any) -> None:
    """Quantise MODEL into a container.

    MODEL is a folder or a file (model.safetensors, shards with an index, pytorch_model.bin), or
    the name of a model on the hub.

    \b
    Examples:
      python -m quant quantize path/to/model -o model.gobo.safetensors
      python -m quant quantize roberta-base -o roberta.gobo.safetensors --recipe roberta-mixed
      python -m quant quantize gpt2 -o gpt2.gobo.safetensors --include 'h.*.weight'
    """
    check_free(output, force=force)
    source = open_model(model)
    choices, options = plan(source, given)
    chosen = {c.name: source.tensors[c.name].size for c in choices if c.bits is not None}
    weights = sum(chosen.values())
    say(
        f"{source.path}: quantising {len(chosen)} of {len(choices)} tensors, {weights:,} weights, "
        f"by {options.policy}, outliers {options.rule}, values in {options.value_format}"
    )
    begun = time.monotonic()
    with progress("quantising", chosen) as done:
        layers = write(output, source, choices, options, jobs=jobs, force=force, done=done)
    written = output.stat().st_size
    stored = sum(_nbytes(source, c) for c in choices if c.bits is None)
    before = sum(_nbytes(source, c) for c in choices)
    bits = bits_per_weight(written, stored, layers)
    say(
        f"{output}: {size_text(written)}, {before / written:.2f} times smaller than the model; "
        f"{bits:.3f} bits a quantised weight (bound {total_bound(layers):.3f}), "
        f"{32 / bits:.2f} times smaller than FP32; outliers "
        f"{sum(layer.outlier_count for layer in layers) / weights:.3%}; "
        f"{time.monotonic() - begun:.1f} s"
    )


@cli.command()
@click.argument("model")
@quantiser_options
def explain(model: str, **given: Any) -> None:
    """Say what `quantize` would do with each tensor of MODEL, and why.

    \b
    Example:
      python -m quant explain path/to/model --embedding-bits 3
    """
    source = open_model(model)
    choices, options = plan(source, given)
    rule, width = options.rule, VALUE_FORMATS[options.value_format].width
    share = {"share": rule.parameter, "none": 0.0}.get(rule.kind, _EXPECTED_SHARE)
    rows, total = [], 0.0
    for choice in choices:
        tensor, nbytes = source.tensors[choice.name], float(_nbytes(source, choice))
        if choice.bits is not None:
            nbytes = predicted_bytes(tensor.size, choice.bits, share, width)
        total += nbytes
        action = f"{choice.bits} bits" if choice.bits else "stays"
        rows.append((choice.name, tensor.dtype, shape_text(tensor.shape), action,
                     size_text(nbytes), choice.why))  # fmt: skip
    print_table(("tensor", "dtype", " shape", "action", " size", "why"), rows)
    before = sum(_nbytes(source, choice) for choice in choices)
    say(f"{source.path}: {size_text(before)} would become about {size_text(total)}, "
        f"with {share:.1%} outliers")  # fmt: skip


@cli.command()
@_container
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def inspect(container: Path, as_json: bool) -> None:
    """Show what is in CONTAINER: layers, bits, outliers, errors.

    \b
    Example:
      python -m quant inspect model.gobo.safetensors
    """
    opened = read(container)
    layers = opened.summaries()
    bits = bits_per_weight(opened.file_bytes, opened.stored_bytes, layers) if layers else 0.0
    if as_json:
        figures = [
            {**asdict(x), "bits_per_weight": x.bits_per_weight, "bound": x.bound} for x in layers
        ]
        click.echo(json.dumps({
            "metadata": opened.metadata, "file_bytes": opened.file_bytes,
            "stored_bytes": opened.stored_bytes, "bits_per_weight": bits,
            "bound": total_bound(layers) if layers else 0.0, "layers": figures,
        }, indent=1))  # fmt: skip
        return
    if layers:
        layer_table(layers)
    what = opened.metadata
    say(
        f"{container}: {size_text(opened.file_bytes)}; policy {what['policy']}, outliers "
        f"{what['outliers']}, values in {what['value_format']}; {len(opened.stored)} tensors as "
        f"they were ({size_text(opened.stored_bytes)}); {bits:.3f} bits a quantised weight, all "
        f"headers included\nmade from a model with SHA-256 {what['source_sha256']}"
    )


@cli.command(name="verify")
@_container
@click.argument("model")
def verify_command(container: Path, model: str) -> int:
    """Compare every weight of CONTAINER with MODEL.

    Checks that each is its nearest centroid or a rounded outlier, that the outliers are those of
    the rule, and that the other tensors are the same bytes.  Exit status 1 if anything differs.

    \b
    Example:
      python -m quant verify model.gobo.safetensors path/to/model
    """
    opened, source = read(container), open_model(model)
    sizes = {name: tensor.size for name, tensor in source.tensors.items()}
    with progress("comparing", sizes) as done:
        results = verify(opened, source, done)
    wrong = [result for result in results if result.what]
    for result in wrong:
        say(f"{result.name}: {result.what}")
    quantised = set(opened.layers)
    say(
        f"{sum(r.weights for r in results if r.name in quantised):,} weights in {len(quantised)} "
        f"layers and {len(results) - len(quantised)} tensors that stayed compared: "
        f"{sum(r.mismatches for r in results):,} mismatches, largest error "
        f"{max((r.max_error for r in results), default=0.0):.4g}"
    )
    if source.sha256() != opened.metadata["source_sha256"]:
        say(f"note: {container} was made from another file than {source.path} (SHA-256)")
    return 1 if wrong else 0


@cli.command(name="export")
@_container
@_out
@click.option("--dtype", type=click.Choice(["F32", "F16", "BF16", "F64"]),
              help="Of the quantised tensors; that of the source if not given.")  # fmt: skip
@click.option("--state-dict", type=click.Path(path_type=Path),
              help="Write the same tensors as a PyTorch state dict, too.")  # fmt: skip
@_force
def export_command(
    container: Path, output: Path, dtype: str | None, state_dict: Path | None, force: bool
) -> None:
    """Write CONTAINER as a plain model with decoded weights.

    \b
    Example:
      python -m quant export model.gobo.safetensors -o decoded/model.safetensors
    """
    check_free(output, force=force)
    if state_dict:
        check_free(state_dict, force=force)
    opened = read(container)
    sizes = {name: opened.layer(name).size for name in opened.layers}
    with progress("decoding", sizes) as done:
        rounded = export(opened, output, dtype=dtype, force=force, done=done)
    say(f"{output}: {len(opened.layers)} tensors decoded, {len(opened.stored)} as they were")
    if rounded:
        say(f"note: {len(rounded)} tensors had to be rounded to their dtype; --dtype F32 keeps "
            "every decoded weight as it is")  # fmt: skip
    if state_dict:
        export_state_dict(output, state_dict, force=force)
        say(f"{state_dict}: the same tensors as a state dict")


@cli.command(name="image")
@_container
@click.option("--config", "config_name", type=click.Choice(list(CONFIGS)),
              help="The configuration it is for.  [default: default]")  # fmt: skip
@click.option("--array", "array_name", type=click.Choice(list(ARRAYS)),
              help="The array of the accelerator it is for, in place of --config.")  # fmt: skip
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE",
              help="Another size than that one's, as `python -m gobo_rtl verilog` takes it; may be "
              "given several times.")  # fmt: skip
@_out
@click.option("--include", multiple=True, metavar="PATTERN",
              help="Layers that go in; the FC matrices if not given.")  # fmt: skip
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Layers that stay out.")
@_force
def image_command(
    container: Path, config_name: str | None, array_name: str | None, changes: Sequence[str],
    output: Path, force: bool, include: Sequence[str], exclude: Sequence[str],
) -> None:  # fmt: skip
    """Pack CONTAINER into a device image for the hardware.

    With --array each layer is also proved to run on that array: no sum overflows, every strip
    fits.  A table of contents is written beside the image: for OUT.bin, OUT.json.

    \b
    Examples:
      python -m quant image model.gobo.safetensors --config default -o model.bin
      python -m quant image model.gobo.safetensors --array default -o model.bin
      python -m quant image model.gobo.safetensors --config block --set lane_rows=8 -o model.bin
    """
    if config_name and array_name:
        raise click.UsageError("--config and --array exclude each other; give one of them")
    check_free(output, force=force)
    check_free(contents_path(output), force=force)
    name = array_name or config_name or "default"
    target: GoboConfig | ArrayConfig
    try:
        target = (
            changed(named_array(name), changes, f"array {name}") if array_name
            else changed(named(name), changes, f"configuration {name}")
        )  # fmt: skip
        name += suffix(changes)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    opened = read(container)
    names = choose_layers(opened, include, exclude)
    sizes = {layer: opened.layer(layer).size for layer in names}
    with progress("packing", sizes) as done:
        table = write_image(output, opened, names, target, name, force=force, done=done)
    nbytes, weights = table["header"]["file_bytes"], sum(sizes.values())
    biased = [layer["bias_bytes"] for layer in table["layers"] if layer["bias_bytes"]]
    bits = 8 * (nbytes - sum(biased)) / weights
    kind = "array" if array_name else "configuration"
    say(f"{output}: {len(names)} layers, {weights:,} weights for {kind} {name}, "
        f"{size_text(nbytes)}, {bits:.3f} bits a weight; biases of {len(biased)} layers; "
        f"table of contents in {contents_path(output)}")  # fmt: skip


def _nbytes(source: Source, choice: Choice) -> int:
    tensor = source.tensors[choice.name]
    return tensor.size * DTYPE_BITS[tensor.dtype] // 8
