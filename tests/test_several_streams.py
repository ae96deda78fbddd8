"""Several streams in one file, end to end: the first is what is meant, the others can be had by their number."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream.cli import main
from tests.small import model, picture


@pytest.fixture(scope="module")
def both() -> tuple[bytes, bytes]:
    one, two = rs.encode_batch([picture(64, 96, seed) for seed in (1, 2)], model(), tile=64)
    return one, two


def decoded(data: bytes, **settings: int) -> rs.Decoded:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        return rs.decode(data, model(), **settings)


def test_each_decodes_as_it_does_alone(both: tuple[bytes, bytes]) -> None:
    data = b"".join(both)
    for number, alone in enumerate(both):
        out = decoded(data, stream=number)
        assert torch.equal(out.latents, decoded(alone).latents)
        assert (out.report.exact, out.report.intact) == (True, False)
        assert not out.mask.any()
        assert rs.verify(data, model(), stream=number).exact
        assert rs.inspect(data, stream=number).stream_id == rs.inspect(alone).stream_id
        with rs.open(data, model(), stream=number) as stream:
            region = stream.decode(region=(8, 8, 60, 60))
            assert np.array_equal(np.asarray(region.image), np.asarray(out.image)[8:60, 8:60])
    assert [report.stream_id for report in rs.read_streams(data)] == [rs.inspect(alone).stream_id for alone in both]


def test_one_that_is_not_there_is_refused(both: tuple[bytes, bytes]) -> None:
    for ask in (rs.inspect, rs.open, lambda data, stream: rs.decode(data, model(), stream=stream)):
        with pytest.raises(rs.StreamNotFound, match="there is no stream 1: 1 with a header are here"):
            ask(both[0], stream=1)
    with pytest.raises(ValueError, match="stream"):
        rs.inspect(both[0], stream=True)


def test_the_command_line_has_them_too(
    both: tuple[bytes, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, frozen, out = tmp_path / "two.robs", tmp_path / "model.safetensors", tmp_path / "out.png"
    file.write_bytes(b"".join(both))
    model().save(frozen)
    assert main(["inspect", str(file)]) == 2
    assert "can be had as stream 1" in capsys.readouterr().out
    assert main(["decode", "--stream", "1", "--model", str(frozen), str(file), str(out)]) == 2
    assert out.exists()
    assert main(["verify", "--stream", "1", str(file)]) == 2
    assert main(["inspect", "--json", "--stream", "1", str(file)]) == 2
    assert rs.inspect(both[1]).stream_id in capsys.readouterr().out
    assert main(["inspect", "--stream", "2", str(file)]) == 1
    assert "there is no stream 2" in capsys.readouterr().err
