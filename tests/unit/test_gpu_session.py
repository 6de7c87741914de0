from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import onnx
import pytest

pytest.importorskip("torch", reason="wants pip install 'reviewpulse[train]'")

from tiny_models import mean_pooled
from typer.testing import CliRunner

from export.bench import gpu_session
from export.bench.gpu_session import REVIEWPULSE, Done, Step
from export.bundle import _precision, _write_model
from models.checkpoint import load_checkpoint, read_record
from stream.cli.main import command_line


def step(name: str, code: str, longest_s: float = 60) -> Step:
    return Step(name, (sys.executable, "-c", code), longest_s, f"{name}.txt")


def test_a_step_that_fails_or_takes_too_long_is_named_and_the_next_one_runs(tmp_path: Path) -> None:
    todo = [
        step("prints", "print('here')"),
        step("fails", "import sys; sys.exit('no GPU')"),
        step("hangs", "import time; time.sleep(600)", longest_s=1.5),
        Step("absent", ("no-such-program",), 60, "absent.txt"),
        step("goes on", "print('there')"),
    ]
    done = gpu_session.run(todo, tmp_path, minutes=5)
    assert [each.ended for each in done] == [
        "well",
        "failed (1)",
        "out of time",
        "failed (No such file or directory: no-such-program)",
        "well",
    ]
    assert (tmp_path / "prints.txt").read_text() == "here\n"
    assert (tmp_path / "fails.txt.log").read_text() == "no GPU\n"
    assert (tmp_path / "goes on.txt").read_text() == "there\n"
    assert msgspec.json.decode((tmp_path / "summary.json").read_bytes(), type=list[Done]) == done


def test_when_the_time_is_over_what_is_left_is_not_begun(tmp_path: Path) -> None:
    [done] = gpu_session.run([step("prints", "print('here')")], tmp_path, minutes=0)
    assert done.ended == "not begun"
    assert not (tmp_path / "prints.txt").exists()


def test_every_step_is_a_command_with_options_that_there_are() -> None:
    todo = gpu_session.steps(Path("o"), Path("s"), Path("b"), Path("t"), data=Path("d"))
    assert [each.name for each in todo] == [
        "machine",
        "tests",
        "export shipped",
        "export base",
        "export packed",
        "scorer",
        "whole path shipped",
        "whole path base",
        "whole path packed",
    ]
    assert len({each.out for each in todo}) == len(todo)
    for each in todo:
        if each.command[:3] == REVIEWPULSE:
            # Asked for help at its end, a command that does not know an option says so and not the help.
            found = CliRunner().invoke(command_line(), [*each.command[3:], "--help"])
            assert (found.exit_code, "Usage" in found.stdout) == (0, True), each


def test_a_checkpoint_of_random_weights_can_be_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"num_hidden_layers": 1, "num_attention_heads": 12, "hidden_size": 48, "intermediate_size": 64}
    monkeypatch.setattr(gpu_session, "BASE", shape)
    folder = gpu_session.make_base(tmp_path / "made")
    network, _ = load_checkpoint(folder, 384)
    assert (network.config.hidden_size, network.config.num_hidden_layers) == (48, 1)
    assert read_record(folder).max_length == 384


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--packed"], "--packed is for NVIDIA GPUs; give --target cuda with it."),
        (["--packed", "--target", "tensorrt"], "--packed is for NVIDIA GPUs; give --target cuda with it."),
        (
            ["--compute", "int8", "--calibrate", "t.txt", "--target", "tensorrt"],
            "--compute int8 is for CPUs; leave --target tensorrt away, which computes in float16.",
        ),
    ],
)
def test_options_of_an_export_for_gpus_belong_together(options: list[str], said: str) -> None:
    found = CliRunner().invoke(
        command_line(), ["export", "checkpoint", "--out", "bundle", "--texts", "t.txt", *options]
    )
    assert str(found.exception) == said


def test_a_bundle_says_what_it_was_made_for() -> None:
    assert [
        _precision("float16", "float32", "cuda"),
        _precision("float16", "float32", "cuda", packed=True),
        _precision("float16", "float32", "tensorrt"),
    ] == [
        "stored and computed float16, for CUDA",
        "stored and computed float16, packed, for CUDA",
        "stored float32, computed float16, for TensorRT",
    ]


def test_the_graph_for_tensorrt_is_the_plain_one(tmp_path: Path) -> None:
    _write_model(mean_pooled(100), tmp_path / "model.onnx", "float16", (0, 1), "tensorrt", None, packed=False)
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert {node.domain for node in graph.node} == {""}
    assert not {node.op_type for node in graph.node} & {"If", "Attention"}
    assert {each.data_type for each in graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
