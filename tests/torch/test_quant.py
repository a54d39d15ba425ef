"""The quantiser and PyTorch: `.bin` files, exported models, layouts as transformers has them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from quant import container
from quant.__main__ import main
from quant.errors import QuantError
from quant.selection import select
from quant.source import open_model

SMALL = {
    "num_hidden_layers": 2, "n_layers": 2, "hidden_size": 8, "dim": 8, "num_attention_heads": 2,
    "n_heads": 2, "intermediate_size": 16, "hidden_dim": 16, "vocab_size": 30,
    "embedding_size": 4, "max_position_embeddings": 20,
}  # fmt: skip

# Class of transformers, where the model without its head is, and its encoder and pooler.
MODELS = {
    "BertForMaskedLM": "bert",
    "BertForSequenceClassification": "bert",
    "RobertaForSequenceClassification": "roberta",
    "DistilBertForSequenceClassification": "distilbert",
    "AlbertForPreTraining": "albert",
    "ElectraForPreTraining": "electra",
    "MPNetForMaskedLM": "mpnet",
    "BertModel": "",
    "RobertaModel": "",
    "DistilBertModel": "",
    "AlbertModel": "",
    "ElectraModel": "",
    "MPNetModel": "",
}


def build(name: str) -> torch.nn.Module:
    kind = getattr(transformers, name)
    known = kind.config_class()
    settings = {key: value for key, value in SMALL.items() if hasattr(known, key)}
    torch.manual_seed(5)
    return kind(kind.config_class(**settings)).eval()


@pytest.mark.parametrize("name", MODELS)
def test_exactly_the_linear_layers_of_the_body_and_the_word_embeddings_are_chosen(tmp_path, name):
    model = build(name)
    model.save_pretrained(tmp_path)
    body = model.get_submodule(MODELS[name])
    prefix = f"{MODELS[name]}." if MODELS[name] else ""
    expected = {
        f"{prefix}{module_name}.weight"
        for module_name, module in body.named_modules()
        if isinstance(module, torch.nn.Linear) or module is body.get_input_embeddings()
    }
    tensors = list(open_model(str(tmp_path)).tensors.values())
    assert {choice.name for choice in select(tensors) if choice.bits is not None} == expected


@pytest.fixture
def folder(tmp_path) -> Path:
    build("BertForSequenceClassification").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_state_dict_is_read_as_the_safetensors_file_is(folder, tmp_path):
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    state = model.state_dict()
    half = {name: t.bfloat16() if "pooler" in name else t for name, t in state.items()}
    for number, legacy in enumerate((False, True)):
        path = tmp_path / f"{number}" / "pytorch_model.bin"
        path.parent.mkdir()
        torch.save(half, path, _use_new_zipfile_serialization=not legacy)
        source = open_model(str(path.parent))
        assert list(source.tensors) == sorted(state)
        for name, tensor in source.tensors.items():
            assert tensor.shape == tuple(state[name].shape)
            want = half[name].contiguous().reshape(-1).view(torch.uint8).numpy()
            assert np.array_equal(tensor.raw(), want)
            if tensor.dtype == "BF16":
                assert np.array_equal(tensor.weights(), half[name].float().numpy())


def test_a_state_dict_in_shards_is_read(folder, tmp_path):
    state = transformers.BertForSequenceClassification.from_pretrained(folder).state_dict()
    names = sorted(state)
    files = {name: f"pytorch_model-{n % 2}.bin" for n, name in enumerate(names)}
    for file in set(files.values()):
        torch.save({n: state[n] for n in names if files[n] == file}, tmp_path / file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    assert list(open_model(str(tmp_path)).tensors) == names


class Harm:
    def __reduce__(self):
        return (print, ("code of the file was run",))


@pytest.mark.parametrize("content", [Harm(), [1, 2], {"a": 1}, b"nonsense", b""])
def test_a_file_that_is_no_state_dict_is_refused_and_never_run(tmp_path, capsys, content):
    path = tmp_path / "pytorch_model.bin"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(QuantError) as caught:
        open_model(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_an_exported_model_loads_in_transformers_and_as_a_state_dict(folder, tmp_path):
    out, plain = tmp_path / "x.gobo.safetensors", tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_bytes((folder / "config.json").read_bytes())
    assert main(["quantize", str(folder), "-o", str(out), "--outliers", "zscore:2.5"]) == 0
    assert main(
        ["export", str(out), "-o", str(plain / "model.safetensors"),
         "--state-dict", str(tmp_path / "pytorch_model.bin")]
    ) == 0  # fmt: skip
    model = transformers.BertForSequenceClassification.from_pretrained(plain)
    state = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    decoded = container.decode(container.read(out))
    loaded = model.state_dict()
    assert set(state) == set(decoded)
    for name, values in decoded.items():
        assert state[name].numpy().tobytes() == values.tobytes()
        assert loaded[name].numpy().tobytes() == values.tobytes()
    words = torch.arange(8)[None]
    assert torch.isfinite(model(words).logits).all()
