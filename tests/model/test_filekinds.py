"""Files that are something else than people think: what they are, and what to do."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import robuststream as rs
from robuststream.model.filekinds import foreign
from robuststream.model.frozen import Model
from tests.small import model, net, picture


def saved(value: Any) -> bytes:
    """What torch.save writes of it."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO(b""))
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights/model.pth", b"abc")
    return file.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
#: Neither models nor checkpoints.
FOREIGN = [
    (b"", "empty: get a whole copy of it"),
    (b"\n <!DOCTYPE html>\n<html><head><title>404</title>", "a web page, .* download it anew"),
    (b"\xef\xbb\xbf<HTML>", "a web page"),
    (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code>', "an XML document"),
    (b'{"message":"Not Found"}', "a JSON document"),
    (LFS, "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"),
    (b"/annex/objects/SHA256E-s1--a", "a git-annex pointer, .* `git annex get`"),
    (gzip.compress(b"abc", mtime=0), "compressed with gzip: unpack it first"),
    (tar(), "a tar archive: unpack it first"),
    (rs.encode(picture(64, 64), model(), tile=64), "a robuststream stream, which holds a picture and no model"),
    (b"\x89PNG\r\n\x1a\n", r"a picture \(PNG\)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY\x01\0", "a NumPy array"),
]
#: Not models, but perhaps checkpoints.
PICKLED = [
    saved(net("mbt2018-mean").state_dict()),
    saved(None),
    zipped(),
    b"\x80\x02}q\0." + bytes(20),
]


@pytest.mark.parametrize(("data", "what"), FOREIGN)
def test_given_as_models(data: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(rs.UnsupportedModel, match=f"m.safetensors: not a model file but {what}") as error:
        rs.load_model(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", PICKLED)
def test_checkpoints_given_as_models(data: bytes) -> None:
    with pytest.raises(rs.UnsupportedModel, match=r"what torch.save or another program wrote: `robuststream freeze`"):
        Model.from_bytes(data)


def test_tensors_without_a_description_given_as_a_model() -> None:
    data = safetensors.torch.save({"g_a.0.weight": torch.zeros(3)})
    with pytest.raises(rs.UnsupportedModel, match="without a robuststream model's description: `robuststream freeze`"):
        Model.from_bytes(data)


def test_no_length_of_a_header_is_taken_for_another_kind() -> None:
    """The first bytes of a model file are a number: any at all."""
    starts = [b"{", b"\x80\x02", b"\x1f\x8b\x08", b"BZh", b"\xff\xd8\xff", b"\x28\xb5\x2f", b"<"]
    random = np.random.default_rng(1)
    lengths = [int.from_bytes(start, "little") for start in starts] + random.integers(1, 10**8, 100).tolist()
    for length in lengths:
        assert foreign(struct.pack("<Q", length) + b'{"__metadata__":{') is None


def test_a_model_whose_header_has_the_length_of_another_kind() -> None:
    """640 is how a pickle begins."""
    data = model().to_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    wanted = (size // 65536 + 1) * 65536 + 640
    padded = struct.pack("<Q", wanted) + data[8 : 8 + size].ljust(wanted) + data[8 + size :]
    assert padded.startswith(b"\x80\x02")
    assert Model.from_bytes(padded).parameters_digest == model().parameters_digest
