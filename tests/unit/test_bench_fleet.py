from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from stream.bench import fleet
from stream.bench.texts import synthetic
from stream.cli.main import command_line
from stream.errors import BundleError
from stream.settings import load

if TYPE_CHECKING:
    from pathlib import Path


def test_workers_on_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet.os, "cpu_count", lambda: 16)
    threads = [fleet.variables(load(), workers)["REVIEWPULSE_THREADS"] for workers in (1, 3, 32)]
    assert threads == ["16", "5", "1"]
    assert fleet.variables(load(threads=2), 4)["REVIEWPULSE_THREADS"] == "2"


def test_workers_get_the_provider_the_graphs_and_the_engines_that_are_set(tmp_path: Path) -> None:
    given = fleet.variables(
        load(provider="tensorrt", cuda_graphs="off", tensorrt_cache=tmp_path, token_budget=16_384), 1
    )
    assert given["REVIEWPULSE_PROVIDER"] == "tensorrt"
    assert given["REVIEWPULSE_CUDA_GRAPHS"] == "off"
    assert given["REVIEWPULSE_TENSORRT_CACHE"] == str(tmp_path)
    assert int(given["REVIEWPULSE_TOKEN_BUDGET"]) == 16_384
    assert "REVIEWPULSE_TENSORRT_CACHE" not in fleet.variables(load(), 1)


def test_what_nvidia_smi_says_is_gathered_and_what_is_no_number_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho '97, 1210'\necho '[N/A], 1210'\necho '91, 1300'\n"
        f'echo "$@" > {tmp_path}/asked\nexec sleep 600\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with fleet._gpu(3) as samples:
        until = time.monotonic() + 30
        while not (tmp_path / "asked").exists() and time.monotonic() < until:
            time.sleep(0.01)
    assert samples == [(97.0, 1210), (91.0, 1300)]
    assert "--id=3" in (tmp_path / "asked").read_text().split()


def test_without_nvidia_smi_nothing_is_said_of_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with fleet._gpu(0) as samples:
        pass
    assert samples == []


@pytest.mark.parametrize("workers", ["1,x", "0", ""])
def test_numbers_of_workers_are_numbers_with_commas(workers: str) -> None:
    found = CliRunner().invoke(
        command_line(), ["bench", "pipeline", "--scorer", "onnx", "--workers", workers]
    )
    assert found.exception is not None
    assert "1,2,4" in str(found.exception)


def test_a_bundle_that_is_not_there_is_noticed_before_any_server_is_started(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no bundle folder"):
        fleet.run(load(bundle=tmp_path / "none"), workers=[1], reviews=1, ceiling_reviews=0, products=1)


def test_a_provider_without_a_model_is_refused() -> None:
    found = CliRunner().invoke(command_line(), ["bench", "pipeline", "--provider", "cuda"])
    assert "--scorer onnx" in str(found.exception)


def test_made_texts_are_short_chats_and_reviews_with_a_tail() -> None:
    lengths = sorted(len(each.split()) for each in synthetic(2000))
    assert (lengths[0], lengths[1000], lengths[-1]) == (2, lengths[1000], 600)
    assert lengths[1000] < 40 < sum(lengths) / 2000
    assert synthetic(50) == synthetic(50)
