"""A file as it came, to the stream that was sent: what text-mode transfers and their like did to it is undone first
(spec/format.md, section 10.3). Whatever reads files from outside reads them here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from robuststream.container.collect import Collected
from robuststream.container.reader import read
from robuststream.container.repair import Restored, put_together
from robuststream.container.report import Finding, Rule
from robuststream.container.stream import Stream
from robuststream.container.tiles import parse_tiles
from robuststream.errors import RobustStreamError

if TYPE_CHECKING:
    from robuststream.transfers.diagnosis import Transfer


def read_stream(data: bytes, lender: Stream | None = None, number: int = 0) -> Stream:
    """Find the stream in `data`, damaged or not, by what stands in it; parity is left alone.

    Args:
        lender: another stream of the same series; where no HEADER is left in `data`, its header is borrowed.
        number: which stream, where `data` holds several: 0 is the one whose intact HEADER comes first; others follow in
            the order of their first packets.

    Raises:
        StreamNotFound: there are not so many streams.
        NotARobustStream: no packet is in it.
        DamagedStream: packets are in it, but no header; or the lender's does not fit.
        UnsupportedVersion: a newer format.
    """
    return _Arrived(data).read(lender, number, parity=False)


def read_restored(data: bytes, lender: Stream | None = None, number: int = 0) -> Stream:
    """As `read_stream`, with what parity gives back; a header is borrowed where that has none either."""
    return _Arrived(data).read(lender, number, parity=True)


def read_streams(data: bytes) -> Iterator[Stream]:
    """All streams in `data` that have an intact HEADER; or the one that `read_stream` finds without. Raises as that.

    Each is read when it is asked for, and costs one scan.
    """
    arrived = _Arrived(data)
    first = arrived.read()
    yield first
    for number in range(1, 1 + first.others):
        yield arrived.read(number=number)


def restore(copies: Sequence[bytes], lender: Stream | None = None) -> Restored:
    """Restore the stream that damaged `copies`, one or more, hold; arguments and errors as for `put_together`."""
    arrived = [_Arrived(data) for data in copies]
    restored = put_together([copy.sent for copy in arrived], lender)
    if restored.whole or not any(copy.transfer is not None and copy.transfer.guessed for copy in arrived):
        return restored
    # What CRCs alone gave back, and no stream id proves, must not be written as though it had been read.
    return replace(restored, data=copies[0])


class _Arrived:
    """A file.

    Attributes:
        came: what is in it as it came.
        sent: the same as it was sent, as far as that can be had.
        transfer: what happened to it on its way; None where nothing known.
    """

    def __init__(self, data: bytes) -> None:
        self.came = self.sent = Collected(data)
        self.transfer: Transfer | None = None
        if not self.came.begins_as_a_stream:
            # Here, because it imports NumPy.
            from robuststream.transfers.diagnosis import undone

            moved = undone(data)
            if moved is not None:
                self.sent, self.transfer = Collected(moved[0]), moved[1]

    def read(self, lender: Stream | None = None, number: int = 0, parity: bool = False) -> Stream:
        """Arguments and errors as for `read_stream`; with `parity`, what that gives back is in the stream."""
        if self.transfer is None:
            return read(self.sent.numbered(number), lender, parity)
        try:
            stream = read(self.sent.numbered(number), lender, parity)
        except RobustStreamError as error:
            raise type(error)(f"{self.transfer.message} ({error})") from error
        size = len(self.came.data)
        finding = Finding(Rule.TRANSFER, self.transfer.message, 0, size)
        report = replace(stream.report, file_bytes=size, findings=(finding, *stream.report.findings))
        restored = {*stream.restored, *self._computed(stream)} if self.transfer.guessed else stream.restored
        return replace(stream, report=report, restored=restored)

    def _computed(self, stream: Stream) -> set[int]:
        """The tiles that CRCs gave back, and that the file as it came does not have."""
        identity = stream.stream_id
        came = self.came if self.came.identity == identity else Collected(self.came.data, identity)
        intact = parse_tiles(stream.header, identity, came.found.tile_payloads())
        return {index for index, tile in stream.tiles.items() if intact.get(index) != tile}
