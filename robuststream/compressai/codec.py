"""A frozen model in the shape of a CompressAI module, for code that measures and compares such modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from robuststream.codec import decode_batch, encode_batch
from robuststream.coding.batches import Failure, OnError
from robuststream.coding.settings import DEFAULT_MODE
from robuststream.container.packets import DEFAULT_TILE
from robuststream.errors import DamagedStream, ImageError
from robuststream.model.frozen import Model


class RobustCodec(nn.Module):
    """`compress` and `decompress` as a CompressAI module has them; each string is a whole stream.

        codec = RobustCodec(rs.load_model()).eval()
        out = codec.compress(x)                                      # x: float (B, 3, H, W) in [0, 1]
        x_hat = codec.decompress(out["strings"], out["shape"])["x_hat"]

    Headers, index and checksums are in the strings, so their sizes are those of files.

    Args:
        model: a frozen model. `to(device)` moves the transforms of this codec, not those of `model` itself.
        tile, mode, quality: as in `robuststream.encode`.
        strict: raise where a string is damaged; else conceal what is lost, with a DamageWarning.
        on_error: "return" has one picture or string that fails not end the others: its error stands in the place of its
            string, and its picture is NaN.
    """

    def __init__(
        self,
        model: Model,
        tile: int = DEFAULT_TILE,
        *,
        mode: str = DEFAULT_MODE,
        quality: int | None = None,
        strict: bool = True,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__()
        self.model = model
        self.tile = tile
        self.mode = mode
        self.quality = quality
        self.strict = strict
        self.on_error = on_error
        # Evaluation code asks a module's first parameter where the module is, and of which type.
        self.place = nn.Parameter(torch.empty(0, dtype=torch.float32, device=model.device), requires_grad=False)

    def compress(self, x: Tensor) -> dict[str, Any]:
        """Encode a batch.

        Args:
            x: float (B, 3, H, W) in [0, 1], of any size, on any device.

        Returns:
            `strings`, a list of one list with a stream (bytes) for each picture, and `shape`, torch.Size (H, W).

        Raises:
            ImageError: `x` is no such batch, or cannot be coded. ValueError: tile, mode or quality is not possible.
        """
        if x.ndim != 4 or not len(x) or x.shape[1] != 3 or not x.is_floating_point():
            what = f"{tuple(x.shape)}, {x.dtype}".replace("torch.", "")
            raise ImageError(f"a tensor of shape {what}: float (B, 3, H, W) in [0, 1] is needed")
        settings: dict[str, Any] = {"tile": self.tile, "mode": self.mode, "quality": self.quality}
        streams = encode_batch(x, self.model, on_error=self.on_error, **settings)
        return {"strings": [streams], "shape": x.shape[2:]}

    def decompress(self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]) -> dict[str, Tensor]:
        """Decode what `compress` returned.

        Returns:
            `x_hat`, (B, 3, H, W) in [0, 1], on this module's device and of its floating type; with `on_error="return"`
            NaN where a string cannot be decoded, or `compress` gave an error for it.

        Raises:
            ValueError: `strings` is not a list of one list. Other errors are those of `robuststream.decode`, and
                DamagedStream where a string's picture does not have the size `shape`.
        """
        if len(strings) != 1 or not strings[0]:
            raise ValueError(f"{len(strings)} lists of strings: one is needed, of the streams that compress returned")
        given = {number: string for number, string in enumerate(strings[0]) if not isinstance(string, Failure)}
        decoded = decode_batch(given.values(), self.model, strict=self.strict, on_error=self.on_error)
        pictures = torch.full((len(strings[0]), 3, *shape), torch.nan, dtype=torch.float32, device="cpu")
        for number, picture in zip(given, decoded, strict=True):
            if isinstance(picture, Failure):
                continue
            if picture.tensor.shape[1:] == tuple(shape):
                pictures[number] = picture.tensor
            elif self.on_error == "raise":
                raise DamagedStream(
                    f"picture {number}: the stream's size is {tuple(picture.tensor.shape[1:])}, and {tuple(shape)} was "
                    "asked for: string and shape do not belong together"
                )
        return {"x_hat": pictures.to(self.place)}

    def update(self, scale_table: Tensor | None = None, force: bool = False, update_quantiles: bool = False) -> bool:
        """False, as from a CompressAI module that has its tables: a frozen model's do not change."""
        return False

    def forward(self, *args: Any, **options: Any) -> NoReturn:
        """Not offered.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "a frozen model holds tables and no densities, so it cannot estimate rates: measure the bytes of compress, "
            "or call forward on the CompressAI module that was frozen"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RobustCodec:
        """What `to`, `cuda`, `half` and the like come down to."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.place.device != self.model.device:
            self.model = Model(self.model.parts, self.place.device)
        return self
