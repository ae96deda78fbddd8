"""CompressAI's transforms come over as they are; whatever is not known is refused by its name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robuststream.errors import UnsupportedModel
from robuststream.networks.floating import FloatingNetwork
from robuststream.networks.trace import trace

models = pytest.importorskip("compressai.models", reason="compressai is not installed")
layers = pytest.importorskip("compressai.layers", reason="compressai is not installed")

N, M = 4, 6
ANALYSIS = ["conv2d", "gdn"] * 3 + ["conv2d"]
SYNTHESIS = ["conv_transpose2d", "gdn"] * 3 + ["conv_transpose2d"]
#: Class, transform: channels in and out, pixels out per pixel in, operations.
TRANSFORMS = {
    ("FactorizedPrior", "g_a"): ((3, M), (1, 16), ANALYSIS),
    ("FactorizedPrior", "g_s"): ((M, 3), (16, 1), SYNTHESIS),
    ("FactorizedPriorReLU", "g_a"): ((3, M), (1, 16), ["conv2d", "relu"] * 3 + ["conv2d"]),
    ("FactorizedPriorReLU", "g_s"): ((M, 3), (16, 1), ["conv_transpose2d", "relu"] * 3 + ["conv_transpose2d"]),
    ("ScaleHyperprior", "g_a"): ((3, M), (1, 16), ANALYSIS),
    ("ScaleHyperprior", "g_s"): ((M, 3), (16, 1), SYNTHESIS),
    ("ScaleHyperprior", "h_a"): ((M, N), (1, 4), ["conv2d", "relu"] * 2 + ["conv2d"]),
    ("ScaleHyperprior", "h_s"): ((N, M), (4, 1), ["conv_transpose2d", "relu"] * 2 + ["conv2d", "relu"]),
    ("MeanScaleHyperprior", "g_a"): ((3, M), (1, 16), ANALYSIS),
    ("MeanScaleHyperprior", "g_s"): ((M, 3), (16, 1), SYNTHESIS),
    ("MeanScaleHyperprior", "h_a"): ((M, N), (1, 4), ["conv2d", "leaky_relu"] * 2 + ["conv2d"]),
    ("MeanScaleHyperprior", "h_s"): ((N, 2 * M), (4, 1), ["conv_transpose2d", "leaky_relu"] * 2 + ["conv2d"]),
}


@pytest.mark.parametrize(("key", "expected"), TRANSFORMS.items(), ids=[".".join(key) for key in TRANSFORMS])
def test_transforms_of_compressai(key, expected):
    torch.manual_seed(1)
    module = getattr(getattr(models, key[0])(N, M).eval(), key[1])
    channels, scale, operations = expected
    network = trace(key[1], module, channels[0])
    assert (network.channels, network.scale) == (channels, scale)
    assert [layer.operation for layer in network.layers] == operations
    x = torch.randn(2, channels[0], 32, 48)
    with torch.no_grad():
        wanted = module(x)
    assert torch.allclose(FloatingNetwork(network)(x), wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


#: Class, transform: channels in and out, pixels out per pixel in, operations that must occur.
BRANCHING = {
    ("Cheng2020Anchor", "g_a"): ((3, 4), (1, 16), {"conv2d", "leaky_relu", "gdn", "add"}),
    ("Cheng2020Anchor", "g_s"): ((4, 3), (16, 1), {"conv2d", "leaky_relu", "gdn", "add", "pixel_shuffle"}),
    ("Cheng2020Anchor", "h_s"): ((4, 8), (4, 1), {"conv2d", "leaky_relu", "pixel_shuffle"}),
    ("Cheng2020Attention", "g_a"): ((3, 4), (1, 16), {"conv2d", "relu", "gdn", "add", "mul", "sigmoid"}),
    ("Cheng2020Attention", "g_s"): ((4, 3), (16, 1), {"conv2d", "gdn", "add", "mul", "sigmoid", "pixel_shuffle"}),
    ("Elic2022Official", "g_a"): ((3, 140), (1, 16), {"conv2d", "relu", "add", "mul", "sigmoid"}),
    ("Elic2022Official", "g_s"): ((140, 3), (16, 1), {"conv_transpose2d", "relu", "add", "mul", "sigmoid"}),
}


@pytest.mark.parametrize(("key", "expected"), BRANCHING.items(), ids=[".".join(key) for key in BRANCHING])
def test_transforms_with_skips(key, expected):
    torch.manual_seed(1)
    net = getattr(models, key[0])(N=4, **({"M": 140} if key[0].startswith("Elic") else {})).eval()
    module = getattr(net, key[1])
    channels, scale, operations = expected
    network = trace(key[1], module, channels[0])
    assert (network.channels, network.scale) == (channels, scale)
    assert operations <= {layer.operation for layer in network.layers}
    x = torch.randn(2, channels[0], 32, 48)
    with torch.no_grad():
        wanted = module(x)
    assert torch.allclose(FloatingNetwork(network)(x), wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("kind", ["MaskedConv2d", "CheckerboardMaskedConv2d"])
def test_masks_are_multiplied_into_the_weights(kind):
    module = getattr(layers, kind)(3, 4, kernel_size=5, padding=2)
    layer = trace("c", module, 3).layers[0]
    assert torch.equal(layer.tensors["weight"], (module.weight * module.mask).detach())
    assert (layer.tensors["weight"] == 0).any()


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        first, second = self.conv(x).chunk(2, 1)
        return torch.cat((second, first * second, x), dim=1)


def test_chunk_and_cat():
    network = trace("h", Halves(), 3)
    assert [layer.operation for layer in network.layers] == ["conv2d", "slice", "slice", "mul", "cat"]
    assert network.channels == (3, 11)


def test_trained_gdn_is_resolved_to_plain_tensors():
    gdn = layers.GDN(4)
    with torch.no_grad():
        gdn.gamma += 0.1 * torch.rand(4, 4)
        gdn.beta -= 5  # below what the reparametrisation lets through
    network = trace("g", nn.Sequential(nn.Conv2d(3, 4, 1), gdn), 3)
    layer = network.layers[1]
    assert torch.equal(layer.tensors["beta"], gdn.beta_reparam(gdn.beta).detach())
    assert torch.equal(layer.tensors["gamma"], gdn.gamma_reparam(gdn.gamma).detach())
    assert (layer.tensors["beta"] > 0).all()


def test_convolution_without_bias_gets_zeros():
    network = trace("g", nn.Sequential(nn.Conv2d(3, 4, 1, bias=False)), 3)
    assert network.layers[0].tensors["bias"].tolist() == [0] * 4


def test_slope_is_kept_as_text():
    network = trace("g", nn.Sequential(nn.Conv2d(3, 4, 1), nn.LeakyReLU(0.2)), 3)
    assert network.layers[1].attributes == {"slope": "0.2"}


class Magnitude(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), nn.ReLU())

    def forward(self, x):
        return self.inner(torch.abs(x))


def test_nested_modules_and_abs():
    network = trace("g", Magnitude(), 3)
    assert [layer.operation for layer in network.layers] == ["abs", "conv2d", "relu"]


def test_the_module_is_left_as_it_was_and_shares_nothing():
    module = nn.Sequential(nn.Conv2d(3, 4, 1)).double()
    network = trace("g", module, 3)
    weight = network.layers[0].tensors["weight"]
    assert weight.dtype == torch.float32
    assert module[0].weight.dtype == torch.float64
    before = weight.clone()
    with torch.no_grad():
        module[0].weight.zero_()
    assert torch.equal(weight, before)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


class Overwrites(nn.Module):
    """An in-place operation on the input itself: what stands behind it sees another input."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.conv = nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(self.relu(x)) + x


def test_an_overwritten_input_is_noticed():
    with pytest.raises(UnsupportedModel, match="more than its type says"):
        trace("g", Overwrites(), 3)


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        first, second = torch.chunk(input=self.conv(x), chunks=2, dim=1)
        return torch.cat(tensors=[second, first], dim=1)


def test_keywords():
    assert [layer.operation for layer in trace("g", Keywords(), 3).layers] == ["conv2d", "slice", "slice", "cat"]


class GivesTuple(Branches):
    def forward(self, x):
        return self.conv(x).chunk(2, 1)


class CallsByKeyword(Branches):
    def forward(self, x):
        return self.conv(input=x)


# --- Refused --------------------------------------------------------------------------------------------------------


class Doubling(nn.Conv2d):
    """More than its base type says."""

    def forward(self, x):
        return 2 * super().forward(x)


class Silent(nn.ReLU):
    """Looks like its base type and is no other in any attribute."""

    def forward(self, x):
        return torch.clamp(x, min=0.5)


class Skips(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x) + x


class AddsNumber(Branches):
    def forward(self, x):
        return self.conv(x) + 1


class JoinsRows(Branches):
    def forward(self, x):
        return torch.cat((self.conv(x), x), dim=2)


class CutsRows(Branches):
    def forward(self, x):
        return self.conv(x).chunk(2, dim=2)[0]


class TwoInputs(Branches):
    def forward(self, x, y):
        return self.conv(x)


class EarlyOutput(Branches):
    def forward(self, x):
        y = self.conv(x)
        torch.abs(y)
        return y


def after(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), *modules)


REFUSED = {
    "unknown layer": (after(nn.Softplus()), "Softplus"),
    "batch normalisation": (after(nn.BatchNorm2d(4)), "BatchNorm2d"),
    "subclass of a convolution": (after(Doubling(4, 4, 1)), "Doubling"),
    "subclass of an activation": (after(Silent()), "Silent"),
    "pixel shuffle that does not fit": (after(nn.PixelShuffle(3)), "layer 1 .*4 channels"),
    "sum of different sizes": (Skips(nn.Conv2d(3, 3, 3, stride=2, padding=1)), "layer 1 .*different sizes"),
    "sum of different channels": (Skips(nn.Conv2d(3, 4, 1)), "layer 1 .*numbers of channels"),
    "groups": (after(nn.Conv2d(4, 4, 3, padding=1, groups=2)), "g.1: 2 groups"),
    "groups, transposed": (after(nn.ConvTranspose2d(4, 4, 1, groups=2)), "g.1: groups"),
    "dilation": (after(nn.Conv2d(4, 4, 3, padding=2, dilation=2)), "g.1: dilation"),
    "padding mode": (after(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")), "g.1: .*padding"),
    "padding by name": (after(nn.Conv2d(4, 4, 3, padding="same")), "g.1: same"),
    "oblong stride": (after(nn.Conv2d(4, 4, 3, stride=(1, 2), padding=1)), r"g.1: \(1, 2\)"),
    "geometry": (after(nn.Conv2d(4, 4, 3)), "layer 1 .*scale"),
    "no layers": (nn.Sequential(), "other than its last layer"),
    "control flow": (Branches(), "network g"),
    "gives a tuple": (GivesTuple(), "other than its last layer"),
    "calls a layer by keyword": (CallsByKeyword(), "other arguments than its input"),
    "a number added": (AddsNumber(), "takes 1, which is no layer's output"),
    "joins rows": (JoinsRows(), "joins another dimension"),
    "cuts rows": (CutsRows(), "cuts another dimension"),
    "layer behind the output": (EarlyOutput(), "other than its last layer"),
    "two inputs": (TwoInputs(), "more than one input"),
    "weights that are not finite": (after(nn.Conv2d(4, 4, 1)), "layer 1 .*not finite"),
}
with torch.no_grad():
    REFUSED["weights that are not finite"][0][1].weight[0] = float("nan")


@pytest.mark.parametrize(("module", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name(module, reason):
    with pytest.raises(UnsupportedModel, match=reason) as caught:
        trace("g", module.eval(), 3)
    assert "\n" not in str(caught.value)


def test_hidden_hook_is_caught_by_running_both():
    """Nothing in type, attributes or graph gives a forward hook away."""
    module = after(nn.ReLU())
    module[0].register_forward_hook(lambda *parts: parts[-1] * 1.01)
    with pytest.raises(UnsupportedModel, match="more than its type says"):
        trace("g", module, 3)


def test_layer_that_only_bears_the_name_of_a_known_one_is_caught():
    class GDN(layers.GDN):
        def forward(self, x):
            return super().forward(x) * 1.01

    with pytest.raises(UnsupportedModel, match="more than its type says"):
        trace("g", after(GDN(4)), 3)
