"""One of many that fails, and the others that do not."""

from __future__ import annotations

import gc
import io
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream import codec
from robuststream.coding.batches import runs
from robuststream.faults import drop_tiles
from tests.helpers import without_headers
from tests.small import model, picture

IMAGES = [picture(70, 100, seed) for seed in range(4)]
STREAMS = [rs.encode(image, model(), tile=64) for image in IMAGES]
LOST = drop_tiles(STREAMS[1], tiles=[1])

#: Streams that cannot be decoded, with the error of each.
BAD_STREAMS: dict[str, tuple[Any, type[Exception], str]] = {
    "no stream": (b"nothing", rs.NotARobustStream, "picture 1: no robuststream packet"),
    "no header": (without_headers(STREAMS[1]), rs.DamagedStream, "picture 1: no HEADER"),
    "no tile": (drop_tiles(STREAMS[1], count=4), rs.DamagedStream, "picture 1: none of the 4 tiles"),
    "another model's": (rs.encode(IMAGES[1], model("mbt2018"), tile=64), rs.ModelMismatch, "picture 1: .* was encoded"),
    "no file": (Path("no such file"), FileNotFoundError, "no such file"),
}


def same(out: Any, data: bytes) -> None:
    assert isinstance(out, rs.Decoded)
    alone = rs.decode(data, model())
    assert torch.equal(out.latents, alone.latents)
    assert torch.equal(out.tensor, alone.tensor)
    assert out.report == alone.report


@pytest.mark.parametrize("bad", BAD_STREAMS)
def test_a_stream_that_cannot_be_decoded(bad: str) -> None:
    source, kind, message = BAD_STREAMS[bad]
    given = [STREAMS[0], source, STREAMS[2]]
    with pytest.raises(kind, match=message):
        rs.decode_batch(given, model())
    outs = rs.decode_batch(given, model(), on_error="return")
    same(outs[0], STREAMS[0])
    same(outs[2], STREAMS[2])
    with pytest.raises(kind, match=message):
        raise outs[1]  # type: ignore[misc]


def test_with_strict_what_is_damaged_is_returned_as_an_error() -> None:
    """It fails where pixels are made, when all latents are there."""
    given = [STREAMS[0], LOST, STREAMS[2]]
    outs = rs.decode_batch(given, model(), on_error="return", strict=True)
    same(outs[0], STREAMS[0])
    same(outs[2], STREAMS[2])
    assert isinstance(outs[1], rs.DamagedStream)
    assert str(outs[1]).startswith("picture 1: ROBS-TILE-MISSING, tile 1")
    with pytest.warns(rs.DamageWarning, match="1 of 4 tiles"):
        outs = rs.decode_batch(given, model(), on_error="return")
    assert [isinstance(out, rs.Decoded) for out in outs] == [True] * 3


def test_a_failure_of_pixels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    synthesise = codec.synthesise

    def failing(latents: torch.Tensor, *more: Any) -> torch.Tensor:
        if torch.equal(latents, second):
            raise rs.ImageError("no pixels")
        return synthesise(latents, *more)

    second = rs.decode(STREAMS[1], model()).latents
    monkeypatch.setattr(codec, "synthesise", failing)
    with pytest.raises(rs.ImageError, match="picture 1: no pixels"):
        rs.decode_batch(STREAMS, model())
    outs = rs.decode_batch(STREAMS, model(), on_error="return")
    assert [type(out) for out in outs] == [rs.Decoded, rs.ImageError, rs.Decoded, rs.Decoded]


def test_a_failure_of_tiles_that_are_decoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    decode_all = codec.decode_all
    second = rs.inspect(STREAMS[1]).stream_id

    def failing(streams: Any, model: rs.Model) -> Any:
        if any(stream.stream_id.hex() == second for stream, _ in streams):
            raise rs.UnsupportedModel("cannot")
        return decode_all(streams, model)

    monkeypatch.setattr(codec, "decode_all", failing)
    outs = rs.decode_batch(STREAMS, model(), on_error="return")
    assert [type(out) for out in outs] == [rs.Decoded, rs.UnsupportedModel, rs.Decoded, rs.Decoded]
    same(outs[3], STREAMS[3])


BAD_IMAGES: dict[str, tuple[Any, type[Exception], str]] = {
    "no picture": (b"nothing", rs.ImageError, "picture 1: .*not a picture"),
    "no file": ("no such file", rs.ImageError, "picture 1: no such file"),
    "alpha": (np.zeros((9, 9, 4), np.uint8), rs.ImageError, "picture 1: .*alpha"),
    "too large": (picture(80, 101), rs.ImageError, "picture 1: 101 x 80 pixels"),
    "none": (None, rs.ImageError, "picture 1: a NoneType is no picture"),
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_a_picture_that_cannot_be_encoded(bad: str) -> None:
    image, kind, message = BAD_IMAGES[bad]
    given, options = [IMAGES[0], image, IMAGES[2]], {"tile": 64, "max_pixels": 70 * 100}
    with pytest.raises(kind, match=message):
        rs.encode_batch(given, model(), **options)  # type: ignore[arg-type]
    outs = rs.encode_batch(given, model(), on_error="return", **options)  # type: ignore[call-overload]
    assert [outs[0], outs[2]] == [STREAMS[0], STREAMS[2]]
    with pytest.raises(kind, match=message):
        raise outs[1]


def test_a_file_that_breaks_off() -> None:
    class Broken(io.BytesIO):
        def read(self, *size: Any) -> bytes:
            raise OSError(5, "Input/output error")

    for outs in (
        rs.encode_batch([IMAGES[0], Broken()], model(), tile=64, on_error="return"),
        rs.decode_batch([STREAMS[0], Broken()], model(), on_error="return"),
    ):
        assert isinstance(outs[1], OSError)
        assert outs[1].errno == 5
        assert not isinstance(outs[0], Exception)


@pytest.mark.parametrize("mode", ["exact", "native"])
def test_latents_that_cannot_be_coded(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found where the tiles of all are coded together; the error says which picture it is."""
    analyse = codec.analyse

    def failing(pixels: torch.Tensor, *more: Any) -> torch.Tensor:
        y = analyse(pixels, *more)
        return y * torch.nan if torch.equal(pixels, wrong) else y

    expected = rs.encode_batch(IMAGES, model(), tile=64, mode=mode)
    wrong = torch.from_numpy(IMAGES[2]).permute(2, 0, 1)
    monkeypatch.setattr(codec, "analyse", failing)
    with pytest.raises(rs.ImageError, match=r"picture 2: .* not finite"):
        rs.encode_batch(IMAGES, model(), tile=64, mode=mode)
    with pytest.raises(rs.ImageError, match=r"^the analysis transform"):
        rs.encode(IMAGES[2], model(), tile=64, mode=mode)
    outs = rs.encode_batch(IMAGES, model(), tile=64, mode=mode, on_error="return")
    assert isinstance(outs[2], rs.ImageError)
    assert outs[:2] + outs[3:] == expected[:2] + expected[3:]


def test_all_that_fail() -> None:
    outs = rs.decode_batch([b"", b"no"], model(), on_error="return")
    assert [str(out)[:9] for out in outs] == ["picture 0", "picture 1"]
    outs = rs.encode_batch([b"", None], model(), on_error="return")
    assert [type(out) for out in outs] == [rs.ImageError] * 2
    assert rs.decode_batch([], model(), on_error="return") == rs.encode_batch([], model(), on_error="return") == []


def test_what_is_wrong_with_the_call_ends_it() -> None:
    for wrong in ("ignore", None, True):
        with pytest.raises(ValueError, match=r"on_error .* is not known: use 'raise' or 'return'"):
            rs.decode_batch(STREAMS, model(), on_error=wrong)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match=r"on_error .* is not known: use 'raise' or 'return'"):
            rs.encode_batch(IMAGES, model(), on_error=wrong)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="tile 100"):
        rs.encode_batch(IMAGES, model(), tile=100, on_error="return")
    with pytest.raises(TypeError, match="cannot be read from None"):
        rs.decode_batch([STREAMS[0], None], model(), on_error="return")  # type: ignore[list-item]
    with pytest.raises(rs.NotARobustStream, match="no header to borrow"):
        rs.decode_batch(STREAMS, model(), header_from=b"nothing", on_error="return")


def test_errors_that_are_kept_keep_nothing_else() -> None:
    class Source(io.BytesIO):
        pass

    source = Source(b"nothing")
    gone = weakref.ref(source)
    image = Source(b"nothing")
    outs = [
        *rs.decode_batch([STREAMS[0], source], model(), on_error="return"),
        *rs.encode_batch([IMAGES[0], image], model(), tile=64, on_error="return"),
    ]
    for number in (1, 3):
        assert outs[number].__traceback__ is outs[number].__cause__ is outs[number].__context__ is None  # type: ignore[union-attr]
    del source
    gc.collect()
    assert gone() is None


def test_what_led_to_a_kept_error_is_kept_without_its_frames() -> None:
    class Broken(io.BytesIO):
        def read(self, *size: Any) -> bytes:
            try:
                raise KeyError("first")
            except KeyError as error:
                failure = OSError(5, "Input/output error")
                error.__context__ = failure
                raise failure from error

    (error,) = rs.decode_batch([Broken()], model(), on_error="return")
    assert isinstance(error, OSError)
    assert isinstance(error.__cause__, KeyError)
    assert error.__traceback__ is error.__cause__.__traceback__ is None


# --- Many, from anything ---------------------------------------------------------------------------------------------


def test_generators() -> None:
    assert rs.encode_batch((image for image in IMAGES), model(), tile=64) == STREAMS
    for out, data in zip(rs.decode_batch(iter(STREAMS), model()), STREAMS, strict=True):
        same(out, data)
    assert rs.encode_batch(np.stack(IMAGES), model(), tile=64) == STREAMS
    assert rs.encode_batch({"a": IMAGES[0]}.values(), model(), tile=64) == STREAMS[:1]
    names = np.array(["no such file"])
    with pytest.raises(FileNotFoundError):
        rs.decode_batch(names, model())


def test_of_a_generators_pictures_one_is_held() -> None:
    alive: list[weakref.ref[Any]] = []

    def images() -> Iterator[Any]:
        for image in IMAGES:
            assert sum(ref() is not None for ref in alive) <= 1
            fresh = image.copy()
            alive.append(weakref.ref(fresh))
            yield fresh

    assert rs.encode_batch(images(), model(), tile=64) == STREAMS


@pytest.mark.parametrize(
    "single",
    ["photo.png", b"bytes", bytearray(9), memoryview(b"9"), io.BytesIO(b"9"), Path("a"), np.zeros(9, np.uint8), None],
)
def test_one_where_many_are_meant(single: Any) -> None:
    name = type(single).__name__
    with pytest.raises(TypeError, match=f"a {name} is not many streams: give a list of them, or a generator"):
        rs.decode_batch(single, model())
    with pytest.raises(TypeError, match=f"a {name} is not many pictures: give a list of them, or a generator"):
        rs.encode_batch(single, model())


# --- CompressAI's interface ------------------------------------------------------------------------------------------


def test_robust_codec() -> None:
    lenient = rs.compressai.RobustCodec(model(), 64, on_error="return")
    x = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in IMAGES]).float() / 255
    x[1] *= 3
    out = lenient.compress(x)
    first, failed, third, last = out["strings"][0]
    assert isinstance(failed, rs.ImageError)
    assert [first, third, last] == [rs.encode(one, model(), tile=64) for one in (x[0], x[2], x[3])]
    given = [first, failed, drop_tiles(third, tiles=[0]), rs.encode(picture(64, 64), model(), tile=64), last]
    x_hat = lenient.decompress([given], out["shape"])["x_hat"]
    assert x_hat.isnan().all(dim=-1).all(dim=-1).all(dim=-1).tolist() == [False, True, True, True, False]
    assert torch.equal(x_hat[4], rs.decode(last, model()).tensor)
    assert not x_hat[[0, 4]].isnan().any()
    with pytest.raises(rs.DamagedStream):
        rs.compressai.RobustCodec(model(), 64).decompress([given[2:]], out["shape"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lenient.decompress([[failed]], out["shape"])["x_hat"].isnan().all()


# --- Runs ------------------------------------------------------------------------------------------------------------


def test_runs_are_alike_and_not_too_large() -> None:
    items = [(3, "a"), (4, "a"), (9, "a"), (2, "b"), (1, "b"), (5, "b"), (1, "a")]
    cut = runs(enumerate(items), lambda item: item, most=8)
    assert [list(run) for run in cut] == [[0, 1], [2], [3, 4, 5], [6]]
    assert list(runs([], len, most=8)) == []


def test_a_batch_of_many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture in each, of two modes; what fails, fails by itself."""
    monkeypatch.setattr(codec, "TOGETHER", 1)
    assert rs.encode_batch(IMAGES, model(), tile=64) == STREAMS
    native = rs.encode(IMAGES[1], model(), tile=64, mode="native")
    given = [STREAMS[0], native, b"nothing", STREAMS[2], LOST]
    with pytest.warns(rs.DamageWarning):
        outs = rs.decode_batch(given, model(), on_error="return")
    for number in (0, 1, 3, 4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            same(outs[number], given[number])
    assert isinstance(outs[2], rs.NotARobustStream)


def test_of_many_pictures_few_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents that are coded are let go while others are made."""
    monkeypatch.setattr(codec, "TOGETHER", 1)
    analyse, alive = codec.analyse, []

    def watched(*given: Any) -> torch.Tensor:
        # The one that is coded, the one before whose stream is written, and the one that ended its run.
        assert sum(ref() is not None for ref in alive) <= 3
        y = analyse(*given)
        alive.append(weakref.ref(y))
        return y

    monkeypatch.setattr(codec, "analyse", watched)
    assert rs.encode_batch(IMAGES * 4, model(), tile=64) == STREAMS * 4
