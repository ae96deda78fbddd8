"""Runs a floating network on a CPU, in a form that is made for one: the same sums, in another order.

A network is lowered to fewer and larger steps, once (`lower`, and steps.py):

- A transposed convolution of stride s is s x s ordinary ones, its phases, each with the taps that fall on its own
  places: of a 5x5 kernel with stride 2 that is 9, 6, 6 and 4 of them, and no product with the zeros of a stretched
  input. A convolution with a pixel shuffle behind it is of the same kind.
- What follows at each place (GDN, ReLU, the sum with another value, ...) is done on what the convolution gave while it
  is in the cache.

A picture then flows through the steps in bands of rows (`_Flow`). Of each value those rows are kept that a later band
looks back to: nothing is computed twice, all that is worked on lies in the cache, and memory hangs on the width of a
picture and not on its height. Rows are kept in buffers that the next picture finds again: new memory costs a fifth of
the time, since the system hands it out page by page, full of zeros.

The channels of a place lie together (torch's channels_last), as the kernels read them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robuststream.networks.convolution import is_convolution
from robuststream.networks.graph import Network
from robuststream.networks.pointwise import POINTWISE
from robuststream.networks.steps import Convolution, Step, Tail

#: Bytes that a step gives in one go for each thread: what stays in a core's own cache, with what is made of it there.
BAND = 1 << 20
#: Bytes of buffers that a network keeps for later pictures; of the largest networks, a call's own are let go.
KEPT = 1 << 28


def lower(network: Network) -> list[Step]:
    """The steps of a network. Step n's output is value n + 1, and value 0 is the network's input."""
    uses = [0] * (len(network.layers) + 1)
    for number, layer in enumerate(network.layers):
        for back in layer.inputs:
            uses[number + 1 - back] += 1
    steps: list[Step] = []
    #: By number of a layer's output: the value that it is, or becomes.
    values = [0]
    for number, layer in enumerate(network.layers):
        inputs = [values[number + 1 - back] for back in layer.inputs]
        channels = network.shapes[number + 1].channels
        # Whether it can be done with the last step, whose output nobody else sees.
        follows = bool(steps) and uses[number] == 1 and 1 in layer.inputs
        if layer.operation == "gdn" or layer.operation in POINTWISE:
            if not follows:
                steps.append(Step(None, (inputs.pop(0),), channels))
            else:
                inputs.remove(len(steps))
            steps[-1].tails.append(Tail(layer, *inputs))
        elif layer.operation == "pixel_shuffle" and follows and _is_plain(steps[-1]):
            convolution = steps.pop()
            steps.append(Convolution(convolution.layers[0], convolution.inputs, channels, layer))
        else:
            steps.append((Convolution if is_convolution(layer) else Step)(layer, tuple(inputs), channels))
        values.append(len(steps))
    return steps


def _is_plain(step: Step) -> bool:
    """Whether nothing is done yet on a convolution."""
    return [layer.operation for layer in step.layers] == ["conv2d"] and not step.tails


class Lowered:
    """A network, ready to run on the CPU. Threads may share it: each borrows buffers of its own."""

    def __init__(self, network: Network) -> None:
        self._steps = lower(network)
        #: By value, the steps that take it.
        self._users: list[list[int]] = [[] for _ in range(len(self._steps) + 1)]
        for number, step in enumerate(self._steps):
            for value in {*step.inputs, *step.others}:
                self._users[value].append(number)
        self._idle: list[list[_Rows]] = []

    def __call__(self, x: Tensor) -> Tensor:
        """float32 (B, C, H, W) to float32."""
        together = max(1, _band_bytes() // self._largest(x))
        if len(x) > together:
            # Rows of several pictures do not lie together, so they go in one band, or one by one.
            return torch.cat([self(piece) for piece in torch.split(x, together)])
        try:
            rows = self._idle.pop()
        except IndexError:
            rows = [_Rows() for _ in self._users]
        output = _Flow(self._steps, self._users, rows, x).run()
        for each in rows:
            each.reset()
        if sum(each.bytes for idle in (*self._idle, rows) for each in idle) <= KEPT:
            self._idle.append(rows)
        return output

    def _largest(self, x: Tensor) -> int:
        """Bytes of the largest value of one picture."""
        return max(4 * channels * height * width for channels, height, width in _shapes(self._steps, x))


def _band_bytes() -> int:
    return BAND * torch.get_num_threads()


def _shapes(steps: Sequence[Step], x: Tensor) -> list[tuple[int, int, int]]:
    """Channels, height and width of each value, where the network's input is x."""
    shapes = [(x.shape[1], x.shape[2], x.shape[3])]
    for step in steps:
        _, height, width = shapes[step.inputs[0]]
        shapes.append((step.channels, step.size(height, 2), step.size(width, 3)))
    return shapes


class _Rows:
    """Some rows of a value, (B, C, rows, W): those that are computed and may still be looked back to.

    Attributes:
        end: number of the first row that is not computed.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.float32, device="cpu")
        self.reset()

    @property
    def bytes(self) -> int:
        """Of its memory."""
        return self._memory.nbytes

    def reset(self) -> None:
        """Forget the rows; the memory stays, for the next picture."""
        self.end = self._first = 0
        self._tensor: Tensor | None = None

    def hold(self, tensor: Tensor) -> None:
        """All rows there are, in memory of others."""
        self._tensor, self.end = tensor, tensor.shape[2]

    def take(self, first: int, end: int) -> Tensor:
        assert self._tensor is not None
        return self._tensor.narrow(2, first - self._first, end - first)

    def room(self, kept: int, end: int, batch: int, channels: int, width: int) -> Tensor:
        """Rows up to `end`, from the first that is not computed, which the caller computes; `kept` and later ones of
        those before stay."""
        if self._tensor is None or self._first + self._tensor.shape[2] < end:
            old = self.take(kept, self.end) if kept < self.end else None
            line = batch * width * channels
            if len(self._memory) < (end - kept) * line:
                self._memory = torch.empty((end - kept) * line, dtype=torch.float32, device="cpu")
            elif old is not None:
                old = old.clone()  # where it goes may overlap it
            # Of one picture all rows that fit; those of several pictures must lie without gaps.
            rows = len(self._memory) // line if batch == 1 else end - kept
            shaped = self._memory[: rows * line].view(batch, rows, width, channels)
            self._tensor, self._first = shaped.permute(0, 3, 1, 2), kept
            if old is not None:
                self.take(kept, self.end).copy_(old)
        start, self.end = self.end, end
        return self.take(start, end)


class _Flow:
    """One input on its way through the steps."""

    def __init__(self, steps: Sequence[Step], users: Sequence[Sequence[int]], rows: list[_Rows], x: Tensor) -> None:
        self._steps = steps
        self._users = users
        self._rows = rows
        self._batch = len(x)
        self._shapes = _shapes(steps, x)
        self._bands = [self._band(number) for number in range(len(steps))]
        rows[0].hold(x.contiguous(memory_format=torch.channels_last))
        # The output is of planes, as everybody else has it.
        self._output = torch.empty((len(x), *self._shapes[-1]), dtype=torch.float32, device="cpu")

    def _band(self, number: int) -> int:
        """Rows of a step's output that go together."""
        step = self._steps[number]
        channels, height, width = self._shapes[number + 1]
        deep, high, wide = self._shapes[step.inputs[0]]
        # For `up` rows of the output, of which one phase is computed at a time. A stride of two reads four times what
        # it gives, but each value but a few times: more rows in a band are worth more than all of them in the cache.
        read = deep * wide * high * step.up // height
        line = 4 * self._batch * max(channels * width // step.up, read // 4)
        return max(1, _band_bytes() // line) * step.up

    def run(self) -> Tensor:
        """Compute the last value band by band, and of each other one the next band where a later step lacks it."""
        last = len(self._steps) - 1
        waiting = [last]
        while self._rows[-1].end < self._shapes[-1][1]:
            number = waiting[-1]
            start = self._rows[number + 1].end
            end = min(start + self._bands[number], self._shapes[number + 1][1])
            lacking = self._lacking(self._steps[number], start, end)
            if lacking is not None:
                waiting.append(lacking - 1)
                continue
            self._compute(number, start, end)
            if number != last:
                waiting.pop()
        return self._output

    def _lacking(self, step: Step, start: int, end: int) -> int | None:
        """A value of which rows are needed that are not computed."""
        below = step.needed(start, end)[1]
        for values, until in ((step.inputs, below), (step.others, end)):
            for value in values:
                if self._rows[value].end < min(until, self._shapes[value][1]):
                    return value
        return None

    def _compute(self, number: int, start: int, end: int) -> None:
        step, rows = self._steps[number], self._rows[number + 1]
        channels, _, width = self._shapes[number + 1]
        if number + 1 == len(self._steps):
            rows.end = end
            out = self._output.narrow(2, start, end - start)
        else:
            out = rows.room(self._kept(number + 1), end, self._batch, channels, width)
        step.run(self._take, start, end, self._shapes[step.inputs[0]][1], out)

    def _take(self, value: int, first: int, end: int) -> Tensor:
        return self._rows[value].take(max(first, 0), min(end, self._shapes[value][1]))

    def _kept(self, value: int) -> int:
        """The first row of a value that may still be looked back to."""
        kept = self._rows[value].end
        for number in self._users[value]:
            step, done = self._steps[number], self._rows[number + 1].end
            if done < self._shapes[number + 1][1]:
                first = step.needed(done, done + 1)[0] if value in step.inputs else done
                kept = min(kept, max(first, 0), done if value in step.others else kept)
        return kept
