"""Makes the test vectors of this folder, and the worked examples in docs/formats.md.

    python -m tests.data.make

Each vector is a container, its device image for a configuration, and a JSON with what a reader
has to get out of them.  The numbers are binary fractions, so every machine gets the same bytes.
"""

import hashlib
import json
import struct
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from gobo_rtl.config import CONFIGS
from gobo_rtl.formats import IMAGE_HEADER, LAYER_DESCRIPTOR, LAYER_RECORD, Record
from quant import container
from quant.fit import Options, OutlierRule
from quant.image import write_image
from quant.selection import select
from quant.source import open_model
from quant.writer import write
from tests.quant import page_reader, toy

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "formats.md"
SMALL = np.array(
    [[3, -2, 17, 9], [-8, 90, 1, -5], [12, -14, 4, 0], [-1, 7, -3, 2], [5, -70, 10, -11]]
)  # in units of 1/64


@dataclass(frozen=True)
class Vector:
    """A model with one matrix ``fc.weight`` and maybe its biases, and how it is stored."""

    weights: np.ndarray
    biases: list[float]
    options: Options
    bits: int
    config: str
    source: str = "F32"


def vectors() -> dict[str, Vector]:
    """Return the vectors by name of their files."""
    rng = np.random.default_rng(20)

    def random(*shape: int) -> np.ndarray:
        return (rng.integers(-60, 61, shape) / 512).astype(np.float32)

    sparse = np.zeros((1, 34000), np.float32)
    sparse[0, [0, 5, 6, 2047 * 16, 33999]] = [1, -1, 2, -2, 4]  # an escape leads to the fourth
    share = OutlierRule("share", 0.1)
    return {
        "small": Vector((SMALL / 64).astype(np.float32), [0.5, -1, 0.125, 0, 3],
                        Options(outliers=share), 3, "tiny"),
        "fp16": Vector(random(19, 37), [n / 8 for n in range(-9, 10)], Options(outliers=share), 2,
                       "rows"),
        "bf16": Vector(random(70, 5), [n / 4 for n in range(70)],
                       Options(value_format="bf16", outliers=share), 4, "bf16", "BF16"),
        "fp32": Vector(random(18, 20), [2.0**n for n in range(18)],
                       Options(value_format="fp32", outliers=share, paper=True), 3, "fp32"),
        "symmetric": Vector(random(20, 20), [], Options(symmetric=True, policy="minmax"), 3,
                            "default"),
        "escapes": Vector(sparse, [], Options(outliers=OutlierRule("zscore", 3.5)), 2, "rows"),
    }  # fmt: skip


def build(folder: Path) -> None:
    """Write all vectors into ``folder``."""
    for name, vector in vectors().items():
        with tempfile.TemporaryDirectory() as place:
            tensors = {"fc.weight": vector.weights}
            if vector.biases:
                tensors["fc.bias"] = np.array(vector.biases, np.float32)
            if vector.source == "BF16":
                model = toy.bf16_file(Path(place) / "model.safetensors", tensors)
            else:
                model = toy.save(Path(place), tensors)
            source = open_model(str(model))
            choices = select(list(source.tensors.values()), include=["fc.weight"], bits=vector.bits)
            path = folder / f"{name}.gobo.safetensors"
            write(path, source, choices, vector.options, force=True)
        opened = container.read(path)
        write_image(folder / f"{name}.bin", opened, opened.layers, CONFIGS[vector.config],
                    vector.config, force=True)  # fmt: skip
        (folder / f"{name}.decoded.json").write_text(json.dumps(decoded(path)) + "\n")


def decoded(path: Path) -> dict:
    """Return what is in a container, by the reader that was made from the page alone."""
    page = page_reader.read(path)
    (layer,) = page["layers"].values()
    weights = [float(weight) for weight in layer.pop("weights")]
    packed = struct.pack(f"<{len(weights)}f", *weights)
    indexes = layer.pop("indexes")
    return {
        **layer,
        "magic": layer["magic"].decode(),
        "codebook": [float(value) for value in layer["codebook"]],
        "outliers": [float(value) for value in layer["outliers"]],
        "indexes": indexes if len(indexes) <= 1000 else "too many to list",
        "weights_sha256": hashlib.sha256(packed).hexdigest(),  # as FP32, row-major
        "metadata": page["metadata"],
        "stored": {name: data.hex() for name, data in page["stored"].items()},
    }


def examples(folder: Path) -> dict[str, str]:
    """Return the worked examples by name of their place in the page."""
    return {"container": container_example(folder), "image": image_example(folder)}


def container_example(folder: Path) -> str:
    data = (folder / "small.gobo.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + size])["fc.weight.gobo"]["data_offsets"]
    start = 8 + size + entry[0]
    record = data[start : 8 + size + entry[1]]
    layer = page_reader.layer(record)
    count, gap_width = layer["outlier_count"], layer["gap_width"]
    sizes = [16, 2 * count, -(-count * gap_width // 8), layer["quotient_bytes"]]
    places = np.cumsum([LAYER_RECORD.size, *sizes]).tolist()
    parts = [record[a:b] for a, b in zip(places, [*places[1:], len(record)], strict=True)]
    gaps = np.diff(layer["positions"], prepend=-1) - 1
    meanings = [
        numbers(layer["codebook"]),
        numbers(layer["outliers"]),
        f"gaps {numbers(gaps)}: the low {gap_width} bits of each, "
        + numbers([int(gap) % 2**gap_width for gap in gaps]),
        "the rest of each, " + numbers([int(gap) >> gap_width for gap in gaps]) + ", unary",
        numbers([index for index in layer["indexes"] if index is not None]),
    ]
    names = ("codebook", "outlier values", "gap remainders", "gap quotients", "indexes")
    rows = [
        f"| {name} | {at} | `{spaced(part)}` | {meaning} |"
        for name, at, part, meaning in zip(names, places, parts, meanings, strict=True)
    ]
    matrix = "\n".join("    " + " ".join(f"{n:4}" for n in row) for row in SMALL.tolist())
    return (
        "**Example.** `tests/data/small.gobo.safetensors` holds a 5 x 4 matrix `fc.weight` and "
        "its biases, an FP32 tensor `fc.bias`; the weights are these, divided by 64:\n\n"
        f"{matrix}\n\n"
        f"The file starts with `{spaced(data[:8])}`, a header of {size} bytes. The record of "
        f"`fc.weight` is at {start}; its header says:\n\n{field_rows(LAYER_RECORD, record)}\n\n"
        "and its sections are\n\n"
        "| section | offset | bytes | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        f"So the outliers are at the positions {numbers(layer['positions'])}."
    )


def image_example(folder: Path) -> str:
    data = (folder / "small.bin").read_bytes()
    (fields,) = json.loads((folder / "small.json").read_text())["layers"]
    index, outlier = fields["index_offset"], fields["outlier_offset"]
    table = fields["tile_table_offset"]
    index_end, outlier_end = index + fields["index_bytes"], outlier + fields["outlier_bytes"]
    bias, at, unit = fields["bias_offset"], IMAGE_HEADER.size, fields["unit_exponent"]
    (layer,) = page_reader.read(folder / "small.gobo.safetensors")["layers"].values()
    weights = np.array(layer["weights"]).reshape(layer["shape"])
    sums = [sum(abs(weight) for weight in row) / Fraction(2) ** unit for row in weights]
    parts = [
        ("codebook", fields["codebook_offset"], 16, "as in the container"),
        ("tile table", table, 32, "two tiles: where their groups and their records start, and "
         "how many there are"),
        ("index stream", index, index_end - index, "4 groups of 12 bits and 16 zero bits; the "
         "same for the second tile, where three lanes of each group are padding"),
        ("outlier stream", outlier, outlier_end - outlier, "of each tile 2 x 16 bits of counts, "
         "2 x 16 bits of CRC-16, its record, zero bits"),
        ("biases", bias, fields["bias_bytes"], "of 5 rows: " +
         numbers(vectors()["small"].biases) + "; of the 3 rows that the second tile lacks, 0"),
    ]  # fmt: skip
    rows = [
        f"| {name} | {at} | `{spaced(data[at : at + size])}` | {meaning} |"
        for name, at, size, meaning in parts
    ]
    return (
        "**Example.** `tests/data/small.bin` is the image of the container above for the "
        "configuration `tiny`: 4 lanes down 4 rows, beats of 8 bytes, bursts of 32.  "
        "Its header says:\n\n"
        f"{field_rows(IMAGE_HEADER, data)}\n\n"
        f"The descriptor follows at {at} and says (its fields are in `small.json`, too):\n\n"
        f"{field_rows(LAYER_DESCRIPTOR, data[at:])}\n\n"
        f"The magnitudes of a row add up to {', '.join(map(str, sums))} units of 2^{unit}; the "
        "greatest is `weight_sum`. Then come\n\n"
        "| part | offset | bytes | meaning |\n|---|---|---|---|\n" + "\n".join(rows)
    )


def field_rows(record: Record, data: bytes) -> str:
    """Return the fields of a record that are not zero as a table."""
    rows = ["| field | offset | bytes |", "|---|---|---|"]
    for field in record.fields:
        at, size = field.offset // 8, field.width // 8
        if any(data[at : at + size]):
            rows.append(f"| `{field.name}` | {at} | `{spaced(data[at : at + size])}` |")
    return "\n".join(rows)


def numbers(values) -> str:
    return ", ".join(f"{float(value):g}" for value in values)


def spaced(data: bytes) -> str:
    return data.hex(" ")


def example_in(page: str, name: str) -> tuple[int, int]:
    """Return where an example starts and stops in the page: between its two marks."""
    start = page.index(mark := f"<!-- {name} example -->") + len(mark)
    return start, page.index(f"<!-- end of {name} example -->", start)


def main() -> None:
    build(FOLDER)
    page = PAGE.read_text()
    for name, text in examples(FOLDER).items():
        start, stop = example_in(page, name)
        page = f"{page[:start]}\n{text}\n{page[stop:]}"
    PAGE.write_text(page)
    print(f"{FOLDER}: {len(vectors())} vectors; {PAGE}: the two examples")


if __name__ == "__main__":
    main()
