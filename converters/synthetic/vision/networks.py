"""ResNet, VGG and ViT: their layers with exact shapes, as torchvision 0.20 builds them.

Sources: He et al., Deep residual learning for image recognition, 2015, table 1, with the stride in the 3x3
convolution as in torchvision ("ResNet v1.5"); Simonyan and Zisserman, Very deep convolutional networks, 2014,
table 1, columns D and E; Dosovitskiy et al., An image is worth 16x16 words, 2020, table 1.

What is kept for the backward pass are the tensors that PyTorch's autograd keeps: inputs of convolutions,
products and norms, each once where two layers share it; a ReLU in place keeps its result, which is the input
of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

from chakrasim.converters.synthetic.op_cost.layers import (
    INDEX_BYTES,
    Formats,
    Layer,
    attention,
    convolution,
    elementwise,
    linear,
    windows,
)
from chakrasim.traces.errors import ConfigError, UnknownName

CLASSES = 1000
Shape = tuple[int, int, int, int]
"""[batch, channels, height, width]"""


@dataclass(frozen=True)
class Unit:
    """Layers that are launched together: a residual block, a stage of a VGG, an encoder layer."""

    name: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Network:
    """Units in the order of the forward pass."""

    name: str
    units: tuple[Unit, ...]

    @property
    def layers(self) -> list[Layer]:
        """Layers of all units, in order."""
        return [layer for unit in self.units for layer in unit.layers]

    @property
    def parameters(self) -> int:
        """Trained ones; running means of norms aren't."""
        return sum(layer.parameters for layer in self.layers)


@dataclass(frozen=True)
class Images:
    """Batch of input images, and whether the network is trained on it."""

    batch: int = 1
    size: int = 224
    """Height and width."""
    formats: Formats = field(default_factory=Formats)
    is_training: bool = True


def network(name: str, images: Images) -> Network:
    """A network by its name, for a batch of images.

    >>> network("resnet-50", Images()).parameters
    25557032

    Raises UnknownName for a name that isn't known, ConfigError for images that don't fit.
    """
    if name not in NETWORKS:
        raise UnknownName("network", name, NETWORKS)
    if images.batch < 1 or images.size < 32:
        raise ConfigError(
            f"{images.batch} images of {images.size} x {images.size}; expected 1 or more, and 32 or more wide"
        )
    make, arguments = NETWORKS[name]
    return Network(name, tuple(make(images, *arguments)))


def _resnet(images: Images, *blocks: int) -> list[Unit]:
    """Bottleneck blocks: 1x1, 3x3 and 1x1 convolutions with norms."""
    shape: Shape = (images.batch, 3, images.size, images.size)
    stem, shape = _conv_norm(images, shape, 64, 7, "conv1", "bn1", stride=2, is_first=True)
    relu = _relu(images, "relu", shape)
    pool, shape = _pool(images, shape, 3, 2, 1)
    units = [Unit("stem", (*stem, relu, pool))]
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            layers, shape = _bottleneck(images, shape, 64 << stage, stride, has_downsample=not block)
            if (stage, block) == (len(blocks) - 1, count - 1):
                # no convolution comes after it that would keep its result
                layers[-1] = _relu(images, "relu3", shape, saves=1)
            units.append(Unit(f"layer{stage + 1}.{block}", tuple(layers)))
    return [*units, Unit("head", tuple(_head(images, prod(shape), shape[1])))]


def _bottleneck(
    images: Images, source: Shape, width: int, stride: int, *, has_downsample: bool
) -> tuple[list[Layer], Shape]:
    # backward, the gradients of both branches are added where they part
    layers = [elementwise("split", prod(source), images.formats, moves=0, moves_back=3)]
    first, shape = _conv_norm(images, source, width, 1, "conv1", "bn1")
    layers += [*first, _relu(images, "relu1", shape)]
    second, shape = _conv_norm(images, shape, width, 3, "conv2", "bn2", stride=stride)
    layers += [*second, _relu(images, "relu2", shape)]
    third, shape = _conv_norm(images, shape, 4 * width, 1, "conv3", "bn3")
    layers += third
    if has_downsample:
        shortcut, _ = _conv_norm(
            images, source, 4 * width, 1, "downsample.conv", "downsample.bn", stride=stride, keeps=False
        )
        layers += shortcut
    layers.append(elementwise("add", prod(shape), images.formats, moves=3, moves_back=0))
    return [*layers, _relu(images, "relu3", shape)], shape


def _conv_norm(
    images: Images,
    source: Shape,
    channels: int,
    window: int,
    name: str,
    norm: str,
    *,
    stride: int = 1,
    is_first: bool = False,
    keeps: bool = True,
) -> tuple[list[Layer], Shape]:
    """A convolution and its batch norm, which in training reads its input twice: for the mean and variance,
    and to apply them. Backward it reads input and gradient twice."""
    conv, shape = convolution(
        name, source, channels, window, images.formats, stride=stride, is_first=is_first, keeps=keeps
    )
    batch_norm = elementwise(
        norm,
        prod(shape),
        images.formats,
        moves=3 if images.is_training else 2,
        moves_back=5,
        ops=7 if images.is_training else 2,
        ops_back=11,
        parameters=2 * channels,
        saves=1,
    )
    return [conv, batch_norm], shape


def _relu(images: Images, name: str, shape: Sequence[int], saves: float = 0) -> Layer:
    return elementwise(name, prod(shape), images.formats, moves=2, moves_back=3, saves=saves)


def _pool(images: Images, source: Shape, window: int, stride: int, padding: int) -> tuple[Layer, Shape]:
    """Max pooling, which keeps its input and where each maximum was."""
    edges = [windows(edge, window, stride, padding) for edge in source[2:]]
    shape = (*source[:2], edges[0], edges[1])
    width = images.formats.width
    # input, result and indices, in elements of the input
    moved = (prod(source) + prod(shape) * (1 + INDEX_BYTES / width)) / prod(source)
    kept = 1 + prod(shape) * INDEX_BYTES / width / prod(source)
    layer = elementwise("pool", prod(source), images.formats, moves=moved, moves_back=moved, saves=kept)
    return layer, shape


def _head(images: Images, elements: int, channels: int) -> list[Layer]:
    """Average pooling, the classifier and the loss."""
    formats, batch = images.formats, images.batch
    pooled = 1 + batch * channels / elements
    return [
        elementwise("avgpool", elements, formats, moves=pooled, moves_back=pooled),
        linear("fc", batch, channels, CLASSES, formats),
        *_loss(images),
    ]


def _loss(images: Images) -> list[Layer]:
    """Softmax and cross-entropy; there is none in inference."""
    if not images.is_training:
        return []
    return [
        elementwise(
            "loss", images.batch * CLASSES, images.formats, moves=3, moves_back=2, ops=5, ops_back=2, saves=1
        )
    ]


def _vgg(images: Images, *stages: int) -> list[Unit]:
    """Stages of 3x3 convolutions with a pool each, and three fully connected layers."""
    formats, batch = images.formats, images.batch
    shape: Shape = (batch, 3, images.size, images.size)
    units = []
    for stage, count in enumerate(stages):
        layers: list[Layer] = []
        for at in range(count):
            conv, shape = convolution(
                f"conv{at + 1}",
                shape,
                min(64 << stage, 512),
                3,
                formats,
                has_bias=True,
                is_first=not stage and not at,
            )
            layers += [conv, _relu(images, f"relu{at + 1}", shape)]
        pool, shape = _pool(images, shape, 2, 2, 0)
        units.append(Unit(f"stage{stage + 1}", (*layers, pool)))
    # adaptive pooling to 7x7, which changes nothing at 224
    pooled = 1 + batch * 512 * 49 / prod(shape)
    layers = [elementwise("avgpool", prod(shape), formats, moves=pooled, moves_back=pooled)]
    for at, inputs in enumerate((512 * 49, 4096)):
        layers.append(linear(f"fc{at + 1}", batch, inputs, 4096, formats))
        layers.append(_relu(images, f"relu{at + 1}", (batch, 4096), saves=1))
        if images.is_training:
            # the mask takes a byte an element
            dropped = 1 / formats.width
            layers.append(
                elementwise(
                    f"dropout{at + 1}",
                    batch * 4096,
                    formats,
                    moves=2 + dropped,
                    moves_back=2 + dropped,
                    saves=dropped,
                )
            )
    layers += [linear("fc3", batch, 4096, CLASSES, formats), *_loss(images)]
    return [*units, Unit("classifier", tuple(layers))]


def _vit(images: Images, patch: int, depth: int, hidden: int, heads: int, mlp: int) -> list[Unit]:
    """Patches as tokens with a class token before them, encoder layers with the norm first."""
    formats, batch = images.formats, images.batch
    if images.size % patch:
        raise ConfigError(f"patches of {patch} don't divide images of {images.size}; expected a multiple")
    source = (batch, 3, images.size, images.size)
    project, shape = convolution(
        "patches", source, hidden, patch, formats, stride=patch, padding=0, has_bias=True, is_first=True
    )
    tokens = shape[2] * shape[3] + 1
    rows, elements = batch * tokens, batch * tokens * hidden
    position = elementwise(
        "position", elements, formats, moves=3, moves_back=2, parameters=hidden * (tokens + 1)
    )
    units = [Unit("embedding", (project, position))]
    for at in range(depth):
        layers = [
            _layer_norm(images, "norm1", elements, hidden),
            linear("attn.qkv", rows, hidden, 3 * hidden, formats),
            attention("attn.core", batch, heads, tokens, hidden // heads, formats),
            linear("attn.out", rows, hidden, hidden, formats, keeps=False),
            # backward, the gradient of the residual is added
            elementwise("add1", elements, formats, moves=3, moves_back=3),
            _layer_norm(images, "norm2", elements, hidden),
            linear("mlp.fc1", rows, hidden, mlp, formats),
            elementwise("mlp.gelu", rows * mlp, formats, moves=2, moves_back=3, ops=8, ops_back=12, saves=1),
            linear("mlp.fc2", rows, mlp, hidden, formats),
            elementwise("add2", elements, formats, moves=3, moves_back=3),
        ]
        units.append(Unit(f"layer{at}", tuple(layers)))
    head = [
        _layer_norm(images, "norm", elements, hidden),
        linear("fc", batch, hidden, CLASSES, formats),
        *_loss(images),
    ]
    return [*units, Unit("head", tuple(head))]


def _layer_norm(images: Images, name: str, elements: int, hidden: int) -> Layer:
    """Read once and written forward. Backward, input and gradient are read for the input's gradient, and once
    more for the parameters'."""
    return elementwise(
        name,
        elements,
        images.formats,
        moves=2,
        moves_back=5,
        ops=7,
        ops_back=14,
        parameters=2 * hidden,
        saves=1,
    )


NETWORKS: dict[str, tuple[Callable[..., list[Unit]], tuple[int, ...]]] = {
    "resnet-50": (_resnet, (3, 4, 6, 3)),
    "resnet-101": (_resnet, (3, 4, 23, 3)),
    "resnet-152": (_resnet, (3, 8, 36, 3)),
    "vgg-16": (_vgg, (2, 2, 3, 3, 3)),
    "vgg-19": (_vgg, (2, 2, 4, 4, 4)),
    "vit-b-16": (_vit, (16, 12, 768, 12, 3072)),
    "vit-b-32": (_vit, (32, 12, 768, 12, 3072)),
    "vit-l-16": (_vit, (16, 24, 1024, 16, 4096)),
    "vit-l-32": (_vit, (32, 24, 1024, 16, 4096)),
    "vit-h-14": (_vit, (14, 32, 1280, 16, 5120)),
}
"""Builder of each network by name, and its blocks a stage, convolutions a stage, or patch, depth, width,
heads and inner width."""
