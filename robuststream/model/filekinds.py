"""What a file is that is no model and no checkpoint: often a web page or an archive was saved in its place."""

from __future__ import annotations

#: So many of a file's first bytes are enough.
HEAD = 1024

_PAGE = "a web page, not the file that was to be downloaded: download it anew, by its own link"
_POINTER = "not the file itself: fetch it with `{}`"
_UNPACK = "unpack it first"
#: First bytes, what they mean, and what to do.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", f"a Git LFS pointer, {_POINTER.format('git lfs pull')}"),
    (b"/annex/objects/", f"a git-annex pointer, {_POINTER.format('git annex get')}"),
    (b"\x1f\x8b", f"compressed with gzip: {_UNPACK}"),
    (b"BZh", f"compressed with bzip2: {_UNPACK}"),
    (b"\xfd7zXZ\0", f"compressed with xz: {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"compressed with zstd: {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive: {_UNPACK}"),
    (b"Rar!", f"a RAR archive: {_UNPACK}"),
    (b"\xb7RS", "a robuststream stream, which holds a picture and no model"),
    (b"\x89PNG", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"\x89HDF", "an HDF5 file, such as Keras writes: the weights of a PyTorch module are needed"),
    (b"\x93NUMPY", "a NumPy array: the weights of a PyTorch module are needed"),
    (b"GGUF", "a GGUF file: the weights of a PyTorch module are needed"),
)
_TEXTS: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype html", _PAGE),
    (b"<html", _PAGE),
    (b"<?xml", "an XML document, perhaps a server's error message: download the file anew"),
    (b"{", "a JSON document, perhaps a server's error message: download the file anew"),
)


def is_safetensors(head: bytes) -> bool:
    """Whether a file with these first bytes is one of safetensors: a length below 100 MB, then a JSON object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000


def foreign(head: bytes) -> str | None:
    """What a file with these first bytes is, and what to do; None for what may be a model or a checkpoint."""
    if not head:
        return "empty: get a whole copy of it"
    if is_safetensors(head):
        return None
    if head[257:262] == b"ustar":
        return f"a tar archive: {_UNPACK}"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    known = [(head, beginning) for beginning in _BEGINNINGS] + [(text, beginning) for beginning in _TEXTS]
    return next((what for start, (beginning, what) in known if start.startswith(beginning)), None)
