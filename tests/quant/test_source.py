"""Models are read as they are, whole, one tensor at a time; anything else is refused."""

import hashlib
import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from safetensors import safe_open

from quant.errors import QuantError
from quant.fit import Options
from quant.selection import select
from quant.source import open_model
from quant.tensorfile import TensorFile, header_bytes
from quant.writer import write

from . import toy


def refusal(model) -> str:
    with pytest.raises(QuantError) as caught:
        open_model(str(model))
    return str(caught.value)


@pytest.mark.parametrize("given", ["folder", "file"])
def test_every_tensor_is_what_the_safetensors_library_wrote(tmp_path, given):
    tensors = toy.bert()
    folder = toy.save(tmp_path, tensors)
    source = open_model(str(folder if given == "folder" else folder / "model.safetensors"))
    assert list(source.tensors) == sorted(tensors)
    for name, tensor in source.tensors.items():
        assert tensor.shape == tensors[name].shape
        assert tensor.raw().tobytes() == tensors[name].tobytes()
        if tensor.dtype == "F32":
            assert tensor.weights().dtype == np.float32
            assert np.array_equal(tensor.weights(), tensors[name])


def test_fp16_bf16_and_fp64_weights_come_as_float32(tmp_path):
    weights = toy.bert()["classifier.weight"]
    toy.save(tmp_path, {"half": weights.astype(np.float16), "double": weights.astype(np.float64)})
    tensors = open_model(str(tmp_path)).tensors
    assert np.array_equal(tensors["half"].weights(), weights.astype(np.float16))
    assert np.array_equal(tensors["double"].weights(), weights)
    file = toy.bf16_file(tmp_path / "b.safetensors", {"brain": weights})
    brain = open_model(str(file)).tensors["brain"]
    assert brain.dtype == "BF16"
    cut = (weights.view(np.uint32) & 0xFFFF0000).view(np.float32)
    assert np.array_equal(brain.weights(), cut)


def test_shards_are_one_model(tmp_path):
    tensors = toy.bert()
    source = open_model(str(toy.save_sharded(tmp_path, tensors)))
    assert list(source.tensors) == sorted(tensors)
    assert all(source.tensors[n].raw().tobytes() == tensors[n].tobytes() for n in tensors)
    assert len(source.files) == 3


def test_the_digest_is_of_the_file_or_of_the_lines_of_several(tmp_path):
    folder = toy.save(tmp_path / "one", toy.bert())
    data = (folder / "model.safetensors").read_bytes()
    assert open_model(str(folder)).sha256() == hashlib.sha256(data).hexdigest()
    folder = toy.save_sharded(tmp_path / "three", toy.bert())
    lines = b"".join(
        b"%s  %s\n" % (hashlib.sha256(path.read_bytes()).hexdigest().encode(), path.name.encode())
        for path in sorted(folder.glob("*.safetensors"))
    )
    assert open_model(str(folder)).sha256() == hashlib.sha256(lines).hexdigest()


def test_an_index_and_its_shards_must_agree(tmp_path):
    folder = toy.save_sharded(tmp_path, toy.bert())
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    first = index["weight_map"].pop("bert.pooler.dense.bias")
    path.write_text(json.dumps(index))
    assert f"{first}: tensor bert.pooler.dense.bias" in refusal(folder)
    index["weight_map"].update({"bert.pooler.dense.bias": first, "more": first})
    path.write_text(json.dumps(index))
    assert "tensor more: named by" in refusal(folder)
    index["weight_map"]["more"] = "../elsewhere.safetensors"
    path.write_text(json.dumps(index))
    assert "'../elsewhere.safetensors' is not the name of a file beside it" in refusal(folder)
    index["weight_map"]["more"] = "lost.safetensors"
    path.write_text(json.dumps(index))
    assert "cannot read" in refusal(folder)
    assert "lost.safetensors: no such file" in refusal(folder)
    for text in ("[1]", "{", '{"weight_map": 3}', '{"weight_map": {"a": []}}', "[" * 100000):
        path.write_text(text)
        assert "weight_map" in refusal(folder)


def test_a_missing_model_is_told_apart_from_an_empty_folder(tmp_path):
    assert "there is no file or folder" in refusal(tmp_path / "nowhere")
    assert "there is no model in this folder" in refusal(tmp_path)


def test_a_hub_name_without_a_network_gives_the_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import huggingface_hub

    def fail(*arguments, **keywords):
        raise OSError("not allowed\nand more")

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached to look for it" in refusal("some/model")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    assert refusal("some/model").endswith("the hub does not give it: not allowed")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install huggingface_hub" in refusal("some/model")


def test_a_hub_name_gives_the_first_of_the_files_that_there_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = toy.save_sharded(tmp_path / "cache", toy.bert())
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def download(model, name, local_files_only):
        assert not local_files_only
        asked.append(name)
        if not (folder / name).exists():
            raise EntryNotFoundError(name)
        return str(folder / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("quant.source._answers", lambda address: True)
    assert list(open_model("some/model").tensors) == sorted(toy.bert())
    assert asked[:2] == ["model.safetensors", "model.safetensors.index.json"]
    assert len(asked) == 5


def test_a_pytorch_file_without_pytorch_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "make test-torch" in refusal(tmp_path)


def test_reading_safetensors_imports_neither_torch_nor_the_hub(tmp_path):
    folder = toy.save(tmp_path, toy.bert())
    code = (
        "import sys; from quant.__main__ import main; "
        f"assert main(['explain', {str(folder)!r}]) == 0; "
        "assert not {'torch', 'huggingface_hub', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_memory_is_bounded_by_a_tensor_and_not_by_the_model(tmp_path):
    rng = np.random.default_rng(toy.SEED)
    tensors = {f"m{n}": rng.normal(0, 0.05, (512, 512)).astype(np.float32) for n in range(16)}
    source = open_model(str(toy.save(tmp_path, tensors)))
    choices = select(list(source.tensors.values()), include=["*"])
    peaks = []
    for count in (2, 16):
        tracemalloc.start()
        write(tmp_path / f"{count}", source, choices[:count], Options())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2e5  # a record each is 1e5 bytes, a tensor is 1e6


def test_a_file_by_hand_is_read_by_us_and_by_the_library(tmp_path):
    data = header_bytes([("a", "F32", (2,), 8), ("é", "U8", (3,), 3)], {"k": "v"}, 400)
    assert len(data) == 400
    path = tmp_path / "x.safetensors"
    path.write_bytes(data + bytes(range(11)))
    ours = TensorFile(path)
    assert ours.metadata == {"k": "v"}
    assert ours.data("é").tolist() == [8, 9, 10]
    with safe_open(path, "numpy") as theirs:
        assert sorted(theirs.keys()) == ["a", "é"]
        assert theirs.get_tensor("é").tolist() == [8, 9, 10]


def entry(start, stop, shape=None, dtype="U8"):
    return {
        "dtype": dtype, "shape": [stop - start] if shape is None else shape,
        "data_offsets": [start, stop],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"", b"", "no { starts the header"),
        (b"[]", b"", "no { starts the header"),
        (b'{"a"', b"", "header: the JSON is damaged"),
        (b'{"a":1,"a":1}', b"", "a key occurs twice"),
        (b'{"\\ud800":{}}', b"", "the JSON is damaged"),
        (b"{" + b'"a":[' * 100000, b"", "the JSON is damaged"),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__ must hold strings"),
        ({"a": 1}, b"", "tensor a: the header must give dtype, shape and data_offsets"),
        ({"a": entry(0, 1, dtype="F5")}, b"1", "the dtype 'F5' is not known"),
        ({"a": entry(0, 1, dtype=["F32"])}, b"1", "is not known"),
        ({"a": entry(0, 1, shape=[-1])}, b"1", "must be lists of whole numbers"),
        ({"a": entry(0, 1, shape=[True])}, b"1", "must be lists of whole numbers"),
        ({"a": entry(0, 1, shape=[2])}, b"1", "1 bytes do not hold the shape [2] of U8"),
        ({"a": entry(2, 1, shape=[0])}, b"1", "-1 bytes do not hold"),
        ({"a": entry(0, 2), "b": entry(1, 3)}, b"123", "tensor b: overlaps the tensor before"),
        ({"a": entry(0, 1), "b": entry(2, 3)}, b"123", "tensor b: leaves a hole before"),
        ({"a": entry(0, 3)}, b"12", "the file is cut off"),
        ({"a": entry(0, 3)}, b"1234", "the file is too long"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path, header, data, message):
    path = toy.raw_file(tmp_path / "x.safetensors", header, data)
    assert message in refusal(path)
    assert str(path) in refusal(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    for data, message in (
        (b"", "0 bytes are too few"),
        (b"PK\3\4 a zip file, for instance", "not a safetensors file"),
        (b"\x20\0\0\0\0\0\0\0{", "cut off"),
    ):
        path.write_bytes(data)
        assert message in refusal(path)
    path.unlink()
    path.mkdir()
    assert "there is no model" in refusal(path)


def test_a_container_is_not_taken_for_a_model(tmp_path):
    source = open_model(str(toy.save(tmp_path, toy.bert())))
    out = tmp_path / "x.gobo.safetensors"
    write(out, source, select(list(source.tensors.values())), Options())
    assert "is a quantised container" in refusal(out)
