"""The command line: what it says, where it puts things, how it ends."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gobo_rtl.config import CONFIGS
from quant import container
from quant.__main__ import main
from quant.cli import cli
from sim.golden.image import read_image

from . import toy

POOLER = "bert.pooler.dense.weight"


@pytest.fixture
def model(tmp_path) -> Path:
    return toy.save(tmp_path / "model", toy.bert(hidden=16))


@pytest.fixture
def made(model, tmp_path) -> Path:
    out = tmp_path / "x.gobo.safetensors"
    assert main(["quantize", str(model), "-o", str(out)]) == 0
    return out


def test_a_model_goes_all_the_way(model, tmp_path, capsys):
    out, image, plain = (tmp_path / name for name in ("x.gobo.safetensors", "x.bin", "y"))
    assert main(["quantize", str(model), "-o", str(out)]) == 0
    before, after = capsys.readouterr().out.splitlines()
    assert before.startswith(f"{model}/model.safetensors: quantising 14 of 22 tensors, 6,880 we")
    assert after.startswith(f"{out}: ")
    assert "bits a quantised weight (bound " in after

    assert main(["verify", str(out), str(model)]) == 0
    assert "6,880 weights in 14 layers and 8 tensors that stayed compared: 0 mismatches" in (
        capsys.readouterr().out
    )
    assert main(["image", str(out), "-o", str(image)]) == 0
    assert "13 layers, 6,400 weights for configuration default" in capsys.readouterr().out
    assert len(read_image(image).layers) == 13

    assert main(["export", str(out), "-o", str(plain)]) == 0
    assert capsys.readouterr().out == f"{plain}: 14 tensors decoded, 8 as they were\n"
    exported, decoded = load_file(plain), container.decode(container.read(out))
    assert set(exported) == set(decoded) == set(toy.bert())
    for name, tensor in exported.items():
        assert tensor.dtype == decoded[name].dtype
        assert tensor.tobytes() == decoded[name].tobytes()


def test_inspect_shows_layers_and_gives_json(made, capsys):
    assert main(["inspect", str(made)]) == 0
    said = capsys.readouterr().out
    assert POOLER in said
    assert "14 layers" in said
    assert main(["inspect", str(made), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["file_bytes"] == made.stat().st_size
    assert [layer["name"] for layer in figures["layers"]] == container.read(made).layers
    assert figures["metadata"]["policy"] == "gobo"


def test_explain_says_of_every_tensor_what_and_why_and_predicts_the_size(model, tmp_path, capsys):
    options = ["--outliers", "share:1%", "--layer-bits", "*pooler*=2"]
    assert main(["explain", str(model), *options]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    assert len(rows) == 1 + len(toy.bert())
    assert [row.split()[0] for row in rows[1:]] == sorted(toy.bert())
    (pooler,) = (row for row in rows if row.startswith(POOLER))
    assert pooler.split()[1:] == ["F32", "16", "x", "16", "2", "bits", "183", "bytes", "pooler"]
    assert "stays" in rows[-1]
    assert "task head" in rows[-1]
    assert "with 1.0% outliers" in last
    assert not list(tmp_path.glob("*.gobo*"))


def test_options_reach_the_layers(model, tmp_path):
    out = tmp_path / "x"
    options = (
        f"-o {out} --bits 2 --embedding-bits 3 --layer-bits *key*=4 --policy kmeans "
        "--outliers share:2% --symmetric --value-format bf16 --centroid-bits 8 "
        "--exclude *pooler* --jobs 2"
    )
    assert main(["quantize", str(model), *options.split()]) == 0
    opened = container.read(out)
    assert POOLER in opened.stored
    for name in opened.layers:
        layer = opened.layer(name).layer
        assert layer.options.index_width == (4 if "key" in name else 3 if "word" in name else 2)
        assert layer.options.policy == "kmeans"
        assert str(layer.options.outliers) == "share:2%"
        assert layer.options.symmetric
        assert layer.options.value_format == "bf16"
        assert np.abs(np.ldexp(layer.codebook, -layer.unit)).max() <= 127
    assert opened.metadata["outliers"] == "share:2%"


def test_paper_keeps_fp32_off_the_grid(model, tmp_path):
    out = tmp_path / "x"
    assert main(["quantize", str(model), "-o", str(out), "--paper"]) == 0
    layer = container.read(out).layer(POOLER).layer
    assert (layer.unit, layer.options.value_format) == (None, "fp32")
    assert set(layer.outliers.tolist()) <= set(toy.bert(hidden=16)[POOLER].reshape(-1).tolist())


def test_verify_exits_with_one_when_something_differs(made, tmp_path, capsys):
    tensors = toy.bert(hidden=16)
    tensors[POOLER][3, 4] += 0.5
    other = toy.save(tmp_path / "other", tensors)
    assert main(["verify", str(made), str(other)]) == 1
    said = capsys.readouterr().out
    assert f"{POOLER}: 1 weights are neither" in said
    assert "1 mismatches" in said
    assert "made from another file" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("quantize ./nowhere -o out", "there is no file or folder ./nowhere"),
        ("quantize {model} -o {model}", "is a folder; name a file in it"),
        ("quantize {model} -o {made}", "is there already; give --force to replace it"),
        ("quantize {model} -o out --layer-bits no=4", "--layer-bits 'no' matches no tensor"),
        ("quantize {model} -o out --layer-bits no", "'no' is not PATTERN=BITS"),
        ("quantize {model} -o out --layer-bits a=5", "'a=5' is not PATTERN=BITS"),
        ("quantize {model} -o out --include no*", "--include 'no*' matches no tensor"),
        ("quantize {model} -o out --exclude *", "nothing to quantise"),
        ("quantize {model} -o out --bits 5", "5 is not in the range 2<=x<=4"),
        ("quantize {model} -o out --outliers z:3", "outlier rule must be one of none, logpdf"),
        ("quantize {model} -o out --outliers zscore", "an outlier rule is written logpdf:-4"),
        ("quantize some/model -o out", "cannot be reached to look for it"),
        ("quantize {model} -o out --policy best", "'best' is not one of"),
        ("quantize {model} -o out --recipe roberta-mixed", "this model has 2 with recognised"),
        ("quantize {model} -o out --paper --value-format fp16", "paper keeps FP32 values"),
        ("quantize {model} -o out --paper --centroid-bits 9", "--paper does not use"),
        ("quantize {model} -o out --value-format bf16 --centroid-bits 12", "at most 9 for bf16"),
        ("image {made} -o out.bin --config none", "'none' is not one of"),
        ("image {made} -o out.bin --include no*", "'no*' matches no layer"),
        ("image {made} -o out.bin --config bf16", "has values in fp16, the configuration takes"),
        ("image {made} -o out.bin --set lanes=3", "lanes must be a power of two in 4..128"),
        ("image {made} -o out.bin --set lane=8", "configuration default has no field 'lane'"),
        ("image {made} -o out.bin --array tiny --set rows", "a change is FIELD=VALUE, not 'rows'"),
        ("image {made} -o out.json", "name it *.bin"),
        ("image {made} -o {made}", "give --force to replace it"),
        ("export {made} -o {made}", "give --force to replace it"),
        ("export {made} -o out --state-dict {made}", "give --force to replace it"),
        ("inspect nowhere", "cannot read nowhere: no such file or directory"),
        ("inspect", "Missing argument 'CONTAINER'"),
        ("nonsense", "No such command 'nonsense'"),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(
    model, made, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quant.source._answers", lambda address: False)
    before = sorted(os.listdir(tmp_path)), made.read_bytes()
    assert main(arguments.format(model=model, made=made).split()) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert (sorted(os.listdir(tmp_path)), made.read_bytes()) == before


def test_force_replaces_and_nothing_else_does(model, made, capsys):
    old = made.read_bytes()
    capsys.readouterr()
    assert main(["quantize", str(model), "-o", str(made), "--bits", "2"]) == 2
    assert made.read_bytes() == old
    assert capsys.readouterr().out == ""  # refused before any work
    assert main(["quantize", str(model), "-o", str(made), "--bits", "2", "--force"]) == 0
    assert made.read_bytes() != old


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_help_has_an_example(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert "Example" in said
    assert f"python -m quant {command}" in said


def test_export_rounds_to_the_dtype_of_the_source_and_says_so(tmp_path, capsys):
    name = "bert.pooler.dense.weight"
    tensors = {n: t for n, t in toy.bert(hidden=16).items() if t.dtype == np.float32}
    folder = tmp_path / "model.safetensors"
    toy.bf16_file(folder, tensors)
    out, plain = tmp_path / "x", tmp_path / "y"
    assert main(["quantize", str(folder), "-o", str(out)]) == 0
    assert main(["verify", str(out), str(folder)]) == 0
    assert main(["export", str(out), "-o", str(plain)]) == 0
    assert "14 tensors had to be rounded to their dtype; --dtype F32" in capsys.readouterr().out
    decoded = container.read(out).weights(name)
    (exported,) = (t for n, t in read_tensors(plain).items() if n == name)
    assert exported.dtype == "BF16"
    error = np.abs(exported.weights() - decoded)
    assert 0 < (error / np.abs(decoded)).max() <= 2.0**-8
    assert main(["export", str(out), "-o", str(plain), "--dtype", "F32", "--force"]) == 0
    assert "rounded" not in capsys.readouterr().out
    assert read_tensors(plain)[name].weights().tobytes() == decoded.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_half_and_double_models_go_all_the_way_in_their_dtype(tmp_path, dtype):
    tensors = {name: tensor.astype(dtype) for name, tensor in toy.bert(hidden=16).items()}
    folder, out, plain = toy.save(tmp_path / "m", tensors), tmp_path / "x", tmp_path / "y"
    assert main(["quantize", str(folder), "-o", str(out)]) == 0
    assert main(["verify", str(out), str(folder)]) == 0
    assert main(["export", str(out), "-o", str(plain)]) == 0
    exported, decoded = load_file(plain), container.decode(container.read(out))
    for name, tensor in exported.items():
        assert tensor.dtype == dtype
        assert np.array_equal(tensor, decoded[name])  # FP16 values fit both


def read_tensors(path: Path) -> dict:
    from quant.source import open_model

    path = path.rename(path.with_suffix(".safetensors"))
    return open_model(str(path)).tensors


def run(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "quant", *arguments]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_leaves_nothing_behind(tmp_path, number, jobs):
    rng = np.random.default_rng(toy.SEED)
    matrices = {f"m{n}": rng.normal(0, 0.05, (1024, 1024)) for n in range(20)}
    folder = toy.save(
        tmp_path / "model", {name: m.astype(np.float32) for name, m in matrices.items()}
    )
    out = tmp_path / "x"
    process = subprocess.Popen(
        run("quantize", str(folder), "-o", str(out), "--include", "*", "--jobs", jobs),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell in the background has its children ignore SIGINT, and these would theirs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".x.*.part")) and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip() == "interrupted; nothing is left half-written"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_there_is_no_bar_without_a_terminal_and_one_with_it(model, tmp_path):
    out = str(tmp_path / "x")
    quiet = subprocess.run(
        run("quantize", str(model), "-o", out), capture_output=True, text=True, check=True
    )
    assert quiet.stderr == ""
    assert len(quiet.stdout.splitlines()) == 2
    above, below = pty.openpty()
    subprocess.run(
        run("quantize", str(model), "-o", out, "--force"), stdout=subprocess.PIPE, stderr=below,
        check=True, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(below)
    assert b"weights/s" in os.read(above, 65536)
    os.close(above)


def test_a_reader_that_goes_away_is_no_error(made):
    command = f"{sys.executable} -m quant inspect {made} | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_every_configuration_can_be_named(made, tmp_path):
    for name in CONFIGS:
        status = main(["image", str(made), "--config", name, "-o", str(tmp_path / f"{name}.bin")])
        assert status == (2 if name == "bf16" else 0)


def test_an_image_has_the_sizes_that_are_set(made, tmp_path):
    image = tmp_path / "out.bin"
    sizes = ["--set", "lanes=8", "--set", "lane_rows=8", "--set", "tile_rows=8"]
    assert main(["image", str(made), "--config", "rows", *sizes, "-o", str(image)]) == 0
    table = json.loads(image.with_suffix(".json").read_text())
    assert table["configuration"]["name"] == "rows_lanes_8_lane_rows_8_tile_rows_8"
    assert [table["header"][name] for name in ("lanes", "lane_rows", "tile_rows")] == [8, 8, 8]
