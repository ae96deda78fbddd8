"""A network to data and back; whatever an untrusted description gets wrong is refused by layer and fault."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from robuststream.errors import UnsupportedModel
from robuststream.networks.checks import MAX_LAYERS, check, network_from_description
from robuststream.networks.graph import Layer, Network
from robuststream.networks.narrowing import freeze_exact
from tests.networks import oracle


def sample(exact: bool = False) -> Network:
    network = oracle.small(np.random.default_rng(1))
    return freeze_exact(network) if exact else network


def with_gdn() -> Network:
    rng = np.random.default_rng(2)
    gdn = Layer("gdn", {"inverse": False}, {"beta": torch.ones(4), "gamma": torch.full((4, 4), 0.1)})
    layers = [Layer("abs"), oracle.layer(rng, "conv2d", 3, 4, 5, 2), gdn, oracle.layer(rng, "conv2d", 4, 6, 5, 2)]
    return Network("g", layers)


def branching() -> Network:
    return oracle.branching(np.random.default_rng(3))


@pytest.mark.parametrize(
    "make", [sample, lambda: sample(exact=True), with_gdn, branching], ids=["float", "exact", "gdn", "branching"]
)
def test_description_and_tensors_give_the_network_back(make):
    network = make()
    exact = any("shift" in layer.tensors for layer in network.layers)
    description = json.loads(json.dumps(network.description()))
    again = network_from_description(network.name, description, network.named_tensors(), exact)
    assert [layer.operation for layer in again.layers] == [layer.operation for layer in network.layers]
    assert [dict(layer.attributes) for layer in again.layers] == [dict(layer.attributes) for layer in network.layers]
    assert [layer.inputs for layer in again.layers] == [layer.inputs for layer in network.layers]
    assert again.description() == network.description()
    for mine, theirs in zip(network.layers, again.layers, strict=True):
        assert mine.tensors.keys() == theirs.tensors.keys()
        assert all(mine.tensors[name] is theirs.tensors[name] for name in mine.tensors)


def test_description_written_out():
    network = with_gdn()
    assert network.description()[:3] == [
        {"operation": "abs", "attributes": {}, "tensors": []},
        {"operation": "conv2d", "attributes": {"stride": 2, "padding": 2}, "tensors": ["bias", "weight"]},
        {"operation": "gdn", "attributes": {"inverse": False}, "tensors": ["beta", "gamma"]},
    ]
    assert list(network.named_tensors()) == [
        "g.1.bias",
        "g.1.weight",
        "g.2.beta",
        "g.2.gamma",
        "g.3.bias",
        "g.3.weight",
    ]


def test_channels_and_scale():
    assert (sample().channels, sample().scale) == ((3, 4), (4, 1))
    assert (with_gdn().channels, with_gdn().scale) == ((3, 6), (1, 4))
    both = Network("b", [*sample().layers, oracle.layer(np.random.default_rng(1), "conv2d", 4, 3, 5, 2)])
    assert both.scale == (2, 1)
    assert (branching().channels, branching().scale) == ((3, 5), (1, 1))


def test_channels_before_the_first_convolution():
    """What makes places channels, or channels places, before it: the network's own input has fewer, or more."""
    convolution = oracle.layer(np.random.default_rng(1), "conv2d", 48, 4, 3, 1)
    down = Network("down", [Layer("relu"), Layer("pixel_unshuffle", {"factor": 4}), convolution])
    assert (down.channels, down.scale) == ((3, 4), (1, 4))
    up = Network("up", [Layer("pixel_shuffle", {"factor": 2}), Layer("relu"), convolution])
    assert (up.channels, up.scale) == ((192, 4), (2, 1))
    odd = Network("odd", [Layer("pixel_unshuffle", {"factor": 5}), convolution])
    with pytest.raises(UnsupportedModel, match=r"layer 1 .*takes 48 channels and gets 25"):
        check(odd, exact=False)


def test_inputs_stand_in_the_description_where_they_are_not_the_layer_before():
    described = branching().description()
    assert [item.get("inputs") for item in described] == [None, None, None, [2], [1, 2], [1, 4, 3], *[None] * 4]


#: Layers of `branching`: 0 conv2d, 1 pixel_shuffle, 2 and 3 slice, 4 add, 5 cat, 6 leaky_relu,
#: 7 depthwise_conv2d, 8 pixel_unshuffle, 9 conv2d.
BAD_INPUTS = [
    (4, [0, 1], "not before it"),
    (4, [1, 6], "not before it"),
    (4, [-1, 1], "not before it"),
    (4, [1], "takes 1 inputs"),
    (4, [1, 2, 3], "takes 3 inputs"),
    (4, [1, 5], "different sizes"),
    (4, [1, 3], "different numbers of channels"),
    (5, [], "takes 0 inputs"),
    (5, [1, 7], "not before it"),
    (6, [1, 1], "takes 2 inputs"),
    (7, [4], "takes 8 channels and gets 2"),
    (4, ["1", 2], "not a list of whole numbers"),
    (4, [True, 2], "not a list of whole numbers"),
    (4, 1, "not a list of whole numbers"),
    (4, None, "not a list of whole numbers"),
]


@pytest.mark.parametrize(("number", "inputs", "reason"), BAD_INPUTS)
def test_bad_inputs_are_refused(number, inputs, reason):
    network = branching()
    description = network.description()
    description[number]["inputs"] = inputs
    with pytest.raises(UnsupportedModel, match=f"network branching, layer {number}.*{reason}"):
        network_from_description("branching", description, network.named_tensors())


@pytest.mark.parametrize(("name", "value", "reason"), [("first", 3, "beyond the 4"), ("channels", 5, "beyond the 4")])
def test_slices_stay_inside(name, value, reason):
    network = branching()
    description = network.description()
    description[2]["attributes"][name] = value
    with pytest.raises(UnsupportedModel, match=f"network branching, layer 2.*{reason}"):
        network_from_description("branching", description, network.named_tensors())


def test_a_value_is_let_go_after_its_last_use():
    """Memory: what no later layer takes must not be held."""
    assert [sorted(dead) for dead in branching()._last_uses] == [[0], [1], [], [], [4], [2, 3, 5], [6], [7], [8], [9]]


# --- Untrusted descriptions ----------------------------------------------------------------------------------------

#: Layers of `sample`: 0 conv_transpose2d, 1 leaky_relu, 2 conv_transpose2d, 3 relu, 4 conv2d.
BAD_DESCRIPTIONS = {
    "no list": (lambda d: {}, "not a list"),
    "nothing": (lambda d: None, "not a list"),
    "empty list": (lambda d: [], "not a list"),
    "too many layers": (lambda d: [d[3]] * (MAX_LAYERS + 1), "1 to 1000"),
    "layer is text": (lambda d: [d[0], "relu"], "layer 1.*'relu'"),
    "unknown operation": (lambda d: [{**d[0], "operation": "eval"}], "layer 0.*'eval' is not one of conv2d"),
    "operation missing": (lambda d: [{"attributes": {}}], "layer 0.*None is not one of"),
    "operation is a list": (lambda d: [{**d[0], "operation": ["conv2d"]}], "layer 0.*is not one of"),
    "operation is an object": (lambda d: [{**d[0], "operation": {}}], "layer 0.*is not one of"),
    "attributes missing": (lambda d: [{"operation": "relu"}], "layer 0.*attributes"),
    "attributes are a list": (lambda d: [{"operation": "relu", "attributes": []}], "layer 0.*attributes"),
    "attribute too many": (lambda d: [{"operation": "relu", "attributes": {"x": 1}}], "layer 0.*attributes"),
    "attribute missing": (lambda d: [{"operation": "conv2d", "attributes": {"stride": 1}}], "layer 0.*padding"),
    "fraction bits where none belong": (
        lambda d: [{**d[0], "attributes": {**d[0]["attributes"], "fraction_bits": 1}}],
        "layer 0.*attributes",
    ),
    "tensor missing": (lambda d: [*d, d[4]], "layer 5.*'s.5.(weight|bias)' is missing"),
    "no convolution": (lambda d: [d[3]], "no convolution"),
}


@pytest.mark.parametrize(("change", "reason"), BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS)
def test_bad_description_is_refused(change, reason):
    network = Network("s", sample().layers)
    with pytest.raises(UnsupportedModel, match=f"(?s)network s.*{reason}"):
        network_from_description("s", change(network.description()), network.named_tensors())


BAD_ATTRIBUTES = [
    (0, "stride", [0, -1, 17, 1.5, "2", None, True, [], 10**30]),
    (0, "padding", [-1, 32, 2.0, "1", False, {}]),
    (0, "output_padding", [-1, 2, 16, "0", True]),
    (1, "slope", ["", "x", "nan", "inf", "-0.1", "1.5", "0x1", " 0.1", "1e5", 0.1, None, [], {}, True]),
]


@pytest.mark.parametrize(
    ("number", "name", "value"), [(number, name, value) for number, name, values in BAD_ATTRIBUTES for value in values]
)
def test_bad_attribute_is_refused(number, name, value):
    network = Network("s", sample().layers)
    description = copy.deepcopy(network.description())
    description[number]["attributes"][name] = value
    with pytest.raises(UnsupportedModel, match=f"network s, layer {number}"):
        network_from_description("s", description, network.named_tensors())


@pytest.mark.parametrize("value", [0, 1, "true", None, []])
def test_bad_inverse_is_refused(value):
    network = with_gdn()
    description = network.description()
    description[2]["attributes"]["inverse"] = value
    with pytest.raises(UnsupportedModel, match="network g, layer 2"):
        network_from_description("g", description, network.named_tensors())


@pytest.mark.parametrize("slope", ["0", "1", "1.0", "0.01", "1e-05", "0.0"])
def test_good_slopes(slope):
    check(Network("s", [*sample().layers, Layer("leaky_relu", {"slope": slope})]), exact=False)


BAD_TENSORS = {
    "not a number": (with_gdn, "g.1.weight", lambda t: t.fill_(float("nan")), "layer 1.*not finite"),
    "infinite": (with_gdn, "g.1.bias", lambda t: t.fill_(float("inf")), "layer 1.*not finite"),
    "float64": (with_gdn, "g.1.weight", lambda t: t.double(), "layer 1.*float64"),
    "integers among floats": (with_gdn, "g.1.weight", lambda t: t.int(), "layer 1.*int32"),
    "three dimensions": (with_gdn, "g.1.weight", lambda t: t[0], "layer 1.*no convolution"),
    "bias with two dimensions": (with_gdn, "g.1.bias", lambda t: t[None], "layer 1.*no convolution"),
    "no outputs": (with_gdn, "g.1.weight", lambda t: t[:0], "layer 1.*no convolution"),
    "bias too long": (with_gdn, "g.1.bias", lambda t: torch.ones(5), "layer 1.*do not fit"),
    "huge kernel": (with_gdn, "g.1.weight", lambda t: torch.ones(4, 3, 33, 33), "layer 1.*do not fit"),
    "kernel that leaves another size": (with_gdn, "g.1.weight", lambda t: t[:, :, :4, :3], "layer 1.*scale sizes"),
    "channels that do not follow": (with_gdn, "g.3.weight", lambda t: t[:, :3], "layer 3.*takes 3 channels and gets 4"),
    "beta too long": (with_gdn, "g.2.beta", lambda t: torch.ones(5), "layer 2.*do not fit"),
    "gamma not square": (with_gdn, "g.2.gamma", lambda t: t[:3], "layer 2.*do not fit"),
    "beta of zero": (with_gdn, "g.2.beta", lambda t: t * 0, "layer 2.*positive"),
    "negative gamma": (with_gdn, "g.2.gamma", lambda t: -t, "layer 2.*negative"),
    "floats among integers": (lambda: sample(exact=True), "small.1.weight", lambda t: t.float(), "layer 1.*float32"),
    "int64 weights": (lambda: sample(exact=True), "small.1.weight", lambda t: t.long(), "layer 1.*int64"),
    "int32 biases": (lambda: sample(exact=True), "small.1.bias", lambda t: t.int(), "layer 1.*int32"),
    "int64 shifts": (lambda: sample(exact=True), "small.1.shift", lambda t: t.long(), "layer 1.*int64"),
    "a shift too few": (lambda: sample(exact=True), "small.1.shift", lambda t: t[1:], "layer 1.*shifts are not 5"),
    "depthwise of two": (branching, "branching.7.weight", lambda t: t.repeat(1, 2, 1, 1), "layer 7.*no depthwise"),
}


@pytest.mark.parametrize(("make", "name", "change", "reason"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_bad_tensor_is_refused(make, name, change, reason):
    network = make()
    tensors = {key: tensor.clone() for key, tensor in network.named_tensors().items()}
    exact = network.name == "small"
    network_from_description(network.name, network.description(), tensors, exact)
    tensors[name] = change(tensors[name])
    with pytest.raises(UnsupportedModel, match=f"network {network.name}, {reason}"):
        network_from_description(network.name, network.description(), tensors, exact)


@pytest.mark.parametrize(
    ("operation", "kernel", "stride", "padding", "more", "fits"),
    [
        ("conv2d", 5, 2, 2, None, True),
        ("conv2d", 3, 1, 1, None, True),
        ("conv2d", 3, 1, 0, None, False),
        ("conv2d", 2, 1, 1, None, False),
        ("conv2d", 4, 2, 1, None, True),
        ("conv2d", 5, 2, 1, None, False),
        ("conv_transpose2d", 5, 2, 2, 1, True),
        ("conv_transpose2d", 5, 2, 2, 0, False),
        ("conv_transpose2d", 4, 2, 1, 0, True),
        ("conv_transpose2d", 3, 1, 1, 0, True),
        ("conv_transpose2d", 3, 1, 0, 0, False),
    ],
)
def test_geometry_must_scale_sizes_by_the_stride(operation, kernel, stride, padding, more, fits):
    attributes = {"stride": stride, "padding": padding} | ({} if more is None else {"output_padding": more})
    tensors = {"weight": torch.ones(2, 2, kernel, kernel), "bias": torch.ones(2)}
    network = Network("n", [Layer(operation, attributes, tensors)])
    if not fits:
        with pytest.raises(UnsupportedModel, match="does not scale"):
            check(network, exact=False)
        return
    check(network, exact=False)
    from robuststream.networks.floating import FloatingNetwork

    for size in (1, 2, 3, 7):
        x = torch.ones(1, 2, size * stride, size * stride)
        wanted = size if operation == "conv2d" else size * stride * stride
        assert FloatingNetwork(network)(x).shape[2:] == (wanted, wanted)


# --- What small files could make of memory and sizes ------------------------------------------------------------------


def layer_of(operation: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> Layer:
    return oracle.layer(np.random.default_rng(1), operation, inputs, outputs, kernel, stride)


UNBOUNDED = {
    "channels that double": (
        [layer_of("conv2d", 1, 1, 1), *[Layer("cat", inputs=(1, 1))] * 26, Layer("slice", {"first": 0, "channels": 2})],
        "more than 65536 channels",
    ),
    "many inputs": ([layer_of("conv2d", 1, 1, 1), Layer("cat", inputs=(1,) * 65)], "takes 65 inputs"),
    "large in between": (
        [layer_of("conv_transpose2d", 1, 1, 16, 16)] * 2 + [layer_of("conv2d", 1, 1, 16, 16)],
        "scales sizes by more than 64",
    ),
    "many values": (
        [layer_of("conv_transpose2d", 1, 1, 8, 8)] * 2 + [layer_of("conv2d", 1, 1024, 1)],
        "values of each place",
    ),
    "smaller in between": (
        [layer_of("conv2d", 1, 2, 2, 2), layer_of("conv_transpose2d", 2, 2, 2, 2)],
        "is smaller than input or output by 2",
    ),
}


@pytest.mark.parametrize(("layers", "reason"), UNBOUNDED.values(), ids=UNBOUNDED)
def test_what_grows_or_shrinks_in_between_is_refused(layers, reason):
    with pytest.raises(UnsupportedModel, match=reason):
        check(freeze_exact(Network("n", layers)), exact=True)


def test_pointwise_is_about_every_layer():
    assert Network("n", [layer_of("conv2d", 2, 3, 1), Layer("relu")]).is_pointwise
    assert not Network("n", [layer_of("conv2d", 2, 3, 3)]).is_pointwise
    # Output 0 hangs on input 0 alone, output 1 does as well.
    shrunk = [layer_of("conv2d", 2, 4, 1, 2), Layer("pixel_shuffle", {"factor": 2})]
    assert not Network("n", shrunk).is_pointwise
