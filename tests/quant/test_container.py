"""The container holds what the quantiser gave, as the page says, in as few bits as it can."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from quant import container, fit
from quant.account import bits_per_weight, bound, total_bound
from quant.encoding import from_float32, to_float32, value_bits
from quant.errors import QuantError
from quant.fit import Options, OutlierRule
from quant.output import replacing
from quant.record import read_record, record_limit, write_record
from quant.selection import select
from quant.source import open_model
from quant.verify import verify
from quant.writer import in_order, write

from . import page_reader, toy


def make(folder: Path, tensors: dict, options: Options | None = None, **selection) -> Path:
    source = open_model(str(toy.save(folder, tensors)))
    choices = select(list(source.tensors.values()), **selection)
    out = folder / "x.gobo.safetensors"
    write(out, source, choices, options or Options(), force=True)
    return out


@st.composite
def layers(draw) -> fit.Layer:
    """Layers of all shapes, rules and formats."""
    shape = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    seed = draw(st.integers(0, 2**32 - 1))
    rule = draw(st.sampled_from(["none", "zscore:1.5", "zscore:2.5", "share:10%", "share:60%"]))
    options = Options(
        index_width=draw(st.integers(2, 4)),
        policy=draw(st.sampled_from(["gobo", "kmeans", "linear", "equal", "minmax"])),
        outliers=OutlierRule.parse(rule),
        symmetric=draw(st.booleans()),
        value_format=draw(st.sampled_from(["fp16", "bf16", "fp32"])),
    )
    if options.value_format == "fp32" and draw(st.booleans()):
        options = replace(options, paper=True)
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, draw(st.sampled_from([0.0, 0.05, 10.0])), shape)
    return fit.quantise(weights.astype(np.float32), options)


@given(layers(), st.booleans(), st.sampled_from(["F32", "F16", "BF16", "F64"]))
@settings(max_examples=150, deadline=None)
def test_a_record_says_what_the_page_says_and_gives_the_layer_back(layer, embedding, dtype):
    record = write_record(layer, dtype, embedding=embedding)
    width, value_format = layer.options.index_width, layer.options.value_format
    assert len(record) <= record_limit(int(np.prod(layer.shape)), width, value_format)
    page = page_reader.layer(record)
    decoded = fit.decode(layer)
    assert [float(weight) for weight in page["weights"]] == decoded.reshape(-1).tolist()
    assert page["positions"] == layer.positions.tolist()
    assert page["shape"] == list(layer.shape)
    assert (page["mean"], page["deviation"]) == (layer.mean, layer.deviation)
    assert (page["l1"], page["max_error"]) == (layer.l1, layer.max_error)
    assert page["squared_error"] == layer.squared_error
    assert page["flags"] == layer.options.symmetric + 2 * (layer.unit is not None) + 4 * embedding
    assert page["unit_exponent"] == (layer.unit or 0)

    stored = read_record("x", np.frombuffer(record, np.uint8))
    assert (stored.source_type, stored.embedding) == (dtype, embedding)
    assert fit.decode(stored.layer).tobytes() == decoded.tobytes()
    assert stored.layer.options.rule == layer.options.rule
    assert stored.indexes().reshape(-1).tolist() == [index or 0 for index in page["indexes"]]
    assert write_record(stored.layer, dtype, embedding=embedding) == record


@pytest.mark.parametrize(
    ("dtype", "unit", "largest"),
    [("BF16", 2.0**-7, 2.0**128 - 2.0**120), ("F16", 2.0**-10, 65504.0)],
)
def test_rounding_to_a_dtype_is_to_nearest_ties_to_even(dtype, unit, largest):
    halves = np.array([0.5, 1.5, 2.5, 0.49, 0.51, -0.5, -1.5])
    values = (np.copysign(1, halves) + unit * halves).astype(np.float32)
    rounded = np.copysign(1, halves) + unit * np.array([0, 2, 2, 0, 1, 0, -2])
    assert to_float32(from_float32(values, dtype), dtype).tolist() == rounded.tolist()
    top = np.array([largest], np.float32)
    assert to_float32(from_float32(top, dtype), dtype) == top
    with pytest.raises(OverflowError):
        from_float32(top * np.float32(1 + unit / 2), dtype)


@pytest.mark.parametrize("value_format", ["fp16", "bf16", "fp32"])
def test_values_are_written_as_their_encodings(value_format):
    values = np.array([1.0, -2.5, 0.0, 2.0**-14, 0.15625], np.float32)
    bits = value_bits(values, value_format)
    width, exponent = page_reader.FORMATS[("fp16", "bf16", "fp32").index(value_format)]
    assert [float(page_reader.value(int(b), width, exponent)) for b in bits] == values.tolist()


def test_the_container_is_what_the_page_and_the_safetensors_library_read(tmp_path):
    tensors = toy.bert()
    out = make(tmp_path, tensors)
    page, opened = page_reader.read(out), container.read(out)
    whole = container.decode(opened)
    assert set(whole) == set(tensors)
    assert set(page["stored"]) == set(opened.stored)
    for name, tensor in tensors.items():
        assert whole[name].shape == tensor.shape
        if name in page["layers"]:
            want = np.array([float(w) for w in page["layers"][name]["weights"]], np.float32)
            assert np.array_equal(whole[name].reshape(-1), want)
            assert page["layers"][name]["flags"] == 2 + 4 * ("word_embeddings" in name)
        else:
            assert page["stored"][name] == tensor.tobytes() == whole[name].tobytes()
    assert page["metadata"] == opened.metadata
    assert page["metadata"]["outliers"] == "logpdf:-4"
    with safe_open(out, "numpy") as library:
        for name in opened.stored:
            assert np.array_equal(library.get_tensor(name), tensors[name])
        record = library.get_tensor("bert.pooler.dense.weight.gobo")
        assert page_reader.layer(record.tobytes()) == page["layers"]["bert.pooler.dense.weight"]


def test_tensors_start_on_multiples_of_their_elements(tmp_path):
    opened = container.read(make(tmp_path, toy.bert()))
    assert {e.start % {"F32": 4, "I64": 8}[e.dtype] for e in opened.stored.values()} == {0}


def test_equal_inputs_and_options_give_equal_bytes_whatever_the_jobs(tmp_path):
    source = open_model(str(toy.save(tmp_path, toy.bert())))
    choices = select(list(source.tensors.values()))
    files = []
    for jobs in (1, 1, 2, 5):
        done = []
        write(tmp_path / "out", source, choices, Options(), jobs=jobs, force=True, done=done.append)
        assert sorted(done) == sorted(source.tensors)
        files.append((tmp_path / "out").read_bytes())
    assert len(set(files)) == 1
    write(tmp_path / "out", source, choices, Options(symmetric=True), force=True)
    assert (tmp_path / "out").read_bytes() != files[0]


def test_no_more_tensors_than_jobs_are_under_way():
    begun = []
    for number, result in enumerate(in_order(lambda n: begun.append(n) or n, range(40), 3)):
        assert result == number
        assert len(begun) <= number + 3


def test_shards_and_one_file_differ_only_in_the_source_digest(tmp_path):
    whole = page_reader.read(make(tmp_path / "one", toy.bert()))
    folder = toy.save_sharded(tmp_path / "three", toy.bert())
    source = open_model(str(folder))
    out = folder / "x.gobo.safetensors"
    write(out, source, select(list(source.tensors.values())), Options())
    sharded = page_reader.read(out)
    assert sharded["layers"] == whole["layers"]
    assert sharded["stored"] == whole["stored"]
    assert sharded["metadata"]["source_sha256"] != whole["metadata"]["source_sha256"]


def test_a_constant_tensor_decodes_to_its_constant(tmp_path):
    tensors = toy.bert()
    tensors["bert.pooler.dense.weight"] = np.full((8, 8), 0.25, np.float32)
    tensors["bert.encoder.layer.0.output.dense.weight"] = np.zeros((8, 32), np.float32)
    whole = container.decode(container.read(make(tmp_path, tensors)))
    for name in ("bert.pooler.dense.weight", "bert.encoder.layer.0.output.dense.weight"):
        assert np.array_equal(whole[name], tensors[name])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named_with_its_position(tmp_path, bad):
    tensors = toy.bert()
    tensors["bert.pooler.dense.weight"][2, 3] = bad
    message = r"model.safetensors: tensor bert.pooler.dense.weight: .* flat position 19 "
    with pytest.raises(QuantError, match=message):
        make(tmp_path, tensors)
    assert not list(tmp_path.glob("*x.gobo*"))


def test_a_value_that_does_not_fit_names_tensor_and_format(tmp_path):
    tensors = toy.bert()
    tensors["bert.pooler.dense.weight"][0, 0] = 1e6
    rule = OutlierRule("zscore", 3.5)
    with pytest.raises(QuantError, match=r"tensor bert.pooler.dense.weight: .*fp16; bf16 holds it"):
        make(tmp_path, tensors, Options(outliers=rule))
    options = Options(outliers=rule, value_format="fp32")
    whole = container.decode(container.read(make(tmp_path, tensors, options)))
    assert whole["bert.pooler.dense.weight"][0, 0] == 1e6


def test_a_rule_that_leaves_no_group_is_refused_with_the_tensor(tmp_path):
    tensors = toy.bert()
    tensors["bert.pooler.dense.weight"] *= 1e6  # the paper's rule depends on the scale
    with pytest.raises(QuantError, match=r"tensor bert.pooler.dense.weight: logpdf:-4 makes every"):
        make(tmp_path, tensors)


def test_a_tensor_whose_name_would_be_taken_for_a_record_is_refused(tmp_path):
    tensors = {**toy.bert(), "bert.x.gobo": np.zeros(3, np.float32)}
    with pytest.raises(QuantError, match=r"cannot hold a tensor called 'bert\.x\.gobo'"):
        make(tmp_path, tensors)


def test_the_bound_is_that_of_the_formula():
    assert bound(3, 0.0, 32) == 3
    assert bound(3, 0.5, 16) == 1.5 + 1 + 8
    assert round(bound(3, 0.001, 32), 3) == 3.04  # DESIGN.md, section 5


def test_minilm_takes_at_most_half_a_percent_more_than_the_bound(minilm_folder, tmp_path):
    source = open_model(str(minilm_folder))
    choices = select(list(source.tensors.values()), exclude=["*word_embeddings*"])
    out = tmp_path / "x.gobo.safetensors"
    layers = write(out, source, choices, Options())
    opened = container.read(out)
    assert opened.summaries() == layers
    stored = sum(source.tensors[c.name].raw().size for c in choices if c.bits is None)
    weights = sum(source.tensors[c.name].size for c in choices if c.bits is not None)
    bits = bits_per_weight(opened.file_bytes, opened.stored_bytes, layers)
    assert bits == 8 * (out.stat().st_size - stored) / weights
    assert total_bound(layers) < bits <= 1.005 * total_bound(layers)
    assert not [result for result in verify(opened, source) if result.what]


# -- files that are whole or not there ---------------------------------------------------------


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(KeyError), replacing(path, force=False) as file:
        file.write(b"half")
        raise KeyError
    assert not list(tmp_path.iterdir())
    with replacing(path, force=False) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    with pytest.raises(QuantError, match="--force"), replacing(path, force=False):
        raise AssertionError("refused before any work")
    with replacing(path, force=True) as file:
        file.write(b"new")
        assert path.read_bytes() == b"whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]
    assert path.read_bytes() == b"new"


def test_a_file_that_appears_in_the_meantime_is_not_replaced(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(QuantError, match="--force"), replacing(path, force=False) as file:
        file.write(b"ours")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_not_there_or_is_the_output_is_refused(tmp_path):
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "a" / "b", "no such file")):
        with pytest.raises(QuantError, match=message), replacing(path, force=True):
            raise AssertionError("refused before any work")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    folder = toy.save(tmp_path / "model", toy.bert(hidden=32))
    code = "import sys; from quant.__main__ import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["quantize", str(folder), "-o", str(tmp_path / "x.gobo.safetensors")]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], preexec_fn=limit, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stderr == f"error: cannot write {arguments[-1]}: file too large\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_without_permission_is_told(tmp_path):
    user, folder = os.geteuid(), tmp_path / "closed"
    folder.mkdir(0)
    if user == 0:
        tmp_path.chmod(0o755)
        for above in tmp_path.parents[:3]:  # pytest's own, closed to others
            above.chmod(above.stat().st_mode | 0o011)
        os.seteuid(65534)  # root may write anywhere
    try:
        written = pytest.raises(QuantError, match=r"cannot write .*: permission denied")
        with written, replacing(folder / "x", force=True):
            raise AssertionError("refused before any work")
        with pytest.raises(QuantError, match=r"cannot read .*: permission denied"):
            open_model(str(folder / "x.safetensors"))
    finally:
        os.seteuid(user)


# -- containers of other kinds -----------------------------------------------------------------


def edited(path: Path, edit) -> str:
    """Edit the metadata of a container and return what reading it says."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = json.loads(header["__metadata__"]["gobo"])
    edit(header, metadata)
    if "gobo" in header["__metadata__"]:
        header["__metadata__"]["gobo"] = json.dumps(metadata)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(QuantError) as caught:
        container.read(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda h, m: m.update(version=2), "version 2 is newer than the 1"),
        (lambda h, m: m.update(version=0), "it must be an object with a version"),
        (lambda h, m: m.update(version=True), "it must be an object with a version"),
        (lambda h, m: m.update(sha256=m["sha256"].upper() + "x"), "sha256 is"),
        (lambda h, m: m.update(policy="kmeans"), "checksum mismatch: the file is damaged"),
        (lambda h, m: m.update(extra=m["sha256"]), "sha256 must be there once"),
        (lambda h, m: m.pop("source_sha256"), "source_sha256 is None"),
        (lambda h, m: h["__metadata__"].pop("gobo"), "not one that `quantize` wrote"),
    ],
)
def test_another_version_or_kind_is_refused(tmp_path, edit, message):
    assert message in edited(make(tmp_path, toy.bert()), edit)
