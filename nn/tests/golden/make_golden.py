"""Makes models.json, the values that whole models are checked against: run `python3 make_golden.py` with PyTorch.

Parameters and inputs are small multiples of 1/256, which every float type holds exactly; losses and gradients are
computed in double precision from them, so that what is compared with is better than what is compared.
"""

import json
import pathlib

import torch

torch.manual_seed(20)


def linear(outputs):
    return {"kind": "linear", "outputs": outputs}


def conv(filters, kernel, stride=1, padding=0, groups=1):
    layer = {"kind": "conv2d", "filters": filters, "kernel": kernel, "stride": stride, "padding": padding}
    return layer if groups == 1 else {**layer, "groups": groups}


def pool(size, stride=None):
    return {"kind": "max_pool2d", "size": size, **({} if stride is None else {"stride": stride})}


def avg_pool(size, stride=None):
    return {**pool(size, stride), "kind": "avg_pool2d"}


def group_norm(groups):
    return {"kind": "group_norm", "groups": groups}


def dropout(share):
    return {"kind": "dropout", "share": share}


def residual(layers, projection=None):
    return {"kind": "residual", "layers": layers, **({} if projection is None else {"projection": projection})}


def embedding(tokens, width):
    return {"kind": "embedding", "tokens": tokens, "width": width}


def patchify(size):
    return {"kind": "patchify", "size": size}


def block(width, heads):
    """A transformer's block, normalised before each of its two parts."""
    attention = {"kind": "causal_self_attention", "heads": heads}
    return [
        residual([LAYER_NORM, attention]),
        residual([LAYER_NORM, linear(2 * width), GELU, linear(width)]),
    ]


RELU, FLATTEN, GELU, TANH, SIGMOID, LAYER_NORM, GLOBAL_AVG_POOL = (
    {"kind": kind} for kind in ("relu", "flatten", "gelu", "tanh", "sigmoid", "layer_norm", "global_avg_pool")
)
POSITIONAL_EMBEDDING = {"kind": "positional_embedding"}

MODELS = {
    "mlp": ([13], 7, [linear(11), RELU, linear(9), RELU, linear(5)]),
    "mlp of an image": ([2, 3, 4], 3, [FLATTEN, linear(8), RELU, linear(3)]),
    "cnn like LeNet": (
        [1, 12, 12],
        4,
        [conv(4, 5, padding=2), RELU, pool(2), conv(6, 3), RELU, pool(2), FLATTEN, linear(12), RELU, linear(10)],
    ),
    "cnn of an oblong image with stride, padding and overlapping pools": (
        [3, 11, 8],
        5,
        [conv(4, [3, 2], [2, 1], [1, 2]), pool([3, 2], [1, 2]), RELU, conv(5, [2, 3], 1, [0, 1]), FLATTEN, linear(4)],
    ),
    "cnn with gaps between pools and more padding than kernel": (
        [2, 10, 13],
        3,
        [RELU, pool(2, 3), conv(3, 3, [1, 2], 3), RELU, pool([2, 1]), conv(4, 1), FLATTEN, RELU, linear(6)],
    ),
    # Which numbers are dropped is each library's own: only that none is where a model is evaluated can be compared.
    "mlp of every activation, normalised": (
        [9],
        6,
        [linear(8), GELU, LAYER_NORM, linear(7), TANH, dropout(0.3)]
        + [linear(6), SIGMOID, linear(5), LAYER_NORM, linear(4)],
    ),
    "cnn of depthwise and grouped convolutions": (
        [2, 8, 7],
        4,
        [conv(6, 1), conv(6, 3, [2, 1], 1, groups=6), TANH, conv(4, [1, 2], groups=2), FLATTEN, linear(4)],
    ),
    "residual network": (
        [2, 9, 8],
        4,
        [
            conv(4, 3, padding=1),
            residual([group_norm(2), RELU, conv(4, 3, padding=1), group_norm(1), GELU, conv(4, 3, padding=1)]),
            residual([group_norm(4), conv(6, 3, 2, 1), residual([TANH, conv(6, 1)])], conv(6, 1, 2)),
            avg_pool(2, 1),
            group_norm(3),
            avg_pool([1, 2]),
            GLOBAL_AVG_POOL,
            residual([linear(5), RELU, linear(6)]),
            linear(3),
        ],
    ),
    "transformer": (
        [7],
        4,
        [embedding(11, 8), POSITIONAL_EMBEDDING, *block(8, 2), *block(8, 4), LAYER_NORM, FLATTEN, linear(5)],
    ),
    "vision transformer": (
        [2, 6, 8],
        4,
        [patchify([3, 2]), linear(6), POSITIONAL_EMBEDDING, *block(6, 3), GLOBAL_AVG_POOL, linear(4)],
    ),
    "transformer that says the next token": (
        [6],
        3,
        [embedding(9, 8), POSITIONAL_EMBEDDING, *block(8, 2), LAYER_NORM, linear(9)],
    ),
    "mlp of numbers": ([7], 5, [linear(9), TANH, linear(3)], "mean_squared_error"),
    "mlp of chances": ([7], 5, [linear(9), GELU, linear(3)], "binary_cross_entropy"),
}


class Residual(torch.nn.Module):
    """P(X) + F(X)."""

    def __init__(self, layers, projection):
        super().__init__()
        self.layers = layers
        if projection is not None:
            self.projection = projection

    def forward(self, x):
        beside = self.projection(x) if hasattr(self, "projection") else x
        return beside + self.layers(x)


class Embedding(torch.nn.Embedding):
    """Of tokens that are given as numbers."""

    def forward(self, x):
        return super().forward(x.long())


class PositionalEmbedding(torch.nn.Embedding):
    """Of each position's number, added."""

    def forward(self, x):
        return x + super().forward(torch.arange(x.shape[1]))


class CausalSelfAttention(torch.nn.MultiheadAttention):
    def __init__(self, width, heads):
        super().__init__(width, heads, batch_first=True)

    def forward(self, x):
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return super().forward(x, x, x, attn_mask=mask, need_weights=False)[0]


class Patchify(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return torch.nn.functional.unfold(x, self.size, stride=self.size).transpose(1, 2)


class Mean(torch.nn.Module):
    """Of a sequence's positions."""

    def forward(self, x):
        return x.mean(dim=1)


def module(layer, incoming):
    """The PyTorch module of a layer, given the shape that comes in."""
    keys = {key: tuple(value) if isinstance(value, list) else value for key, value in layer.items()}
    kind = keys.pop("kind")
    if kind == "linear":
        return torch.nn.Linear(incoming[-1], keys["outputs"])
    if kind == "embedding":
        return Embedding(keys["tokens"], keys["width"])
    if kind == "positional_embedding":
        return PositionalEmbedding(*incoming)
    if kind == "causal_self_attention":
        return CausalSelfAttention(incoming[-1], keys["heads"])
    if kind == "patchify":
        return Patchify(keys["size"])
    if kind == "conv2d":
        sizes = (keys["filters"], keys["kernel"], keys.get("stride", 1), keys.get("padding", 0))
        return torch.nn.Conv2d(incoming[0], *sizes, groups=keys.get("groups", 1))
    if kind == "max_pool2d":
        return torch.nn.MaxPool2d(keys["size"], keys.get("stride"))
    if kind == "avg_pool2d":
        return torch.nn.AvgPool2d(keys["size"], keys.get("stride"))
    if kind == "global_avg_pool" and len(incoming) == 2:
        return Mean()
    if kind == "global_avg_pool":
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    if kind == "group_norm":
        return torch.nn.GroupNorm(keys["groups"], incoming[0])
    if kind == "dropout":
        return torch.nn.Dropout(keys["share"])
    if kind == "layer_norm":
        return torch.nn.LayerNorm(incoming[-1])
    if kind == "residual":
        projection = keys.get("projection")
        return Residual(
            sequential(layer["layers"], incoming),
            None if projection is None else module(projection, incoming),
        )
    return {
        "flatten": torch.nn.Flatten,
        "relu": torch.nn.ReLU,
        "gelu": torch.nn.GELU,
        "tanh": torch.nn.Tanh,
        "sigmoid": torch.nn.Sigmoid,
    }[kind]()


def sequential(layers, incoming):
    """The modules of layers one after the other, given the shape that comes in."""
    modules, shape = [], tuple(incoming)
    for layer in layers:
        modules.append(module(layer, shape))
        shape = tuple(modules[-1](torch.zeros(1, *shape)).shape[1:])
    return torch.nn.Sequential(*modules)


def multiples(shape, bound):
    return torch.round((torch.rand(shape) * 2 - 1) * bound * 256).double() / 256


def answers(loss, given):
    """Targets for what a model gives, the summed loss, and how many answers are right, if any can be."""
    functional = torch.nn.functional
    if loss == "softmax_cross_entropy":
        classes = given.shape[-1]
        labels = torch.randint(0, classes, given.shape[:-1])
        places = labels.numel() // len(labels)
        sums = functional.cross_entropy(given.reshape(-1, classes), labels.flatten(), reduction="sum")
        return labels, sums / places, float((given.argmax(dim=-1) == labels).sum()) / places
    if loss == "mean_squared_error":
        targets = multiples(given.shape, 2.0)
        return targets, functional.mse_loss(given, targets, reduction="sum") / given.shape[1], None
    targets = torch.randint(0, 2, given.shape).double()
    right = float(((given > 0) == (targets > 0)).sum()) / given.shape[1]
    sums = functional.binary_cross_entropy_with_logits(given, targets, reduction="sum")
    return targets, sums / given.shape[1], right


def golden(name, input_shape, batch, layers, loss_name="softmax_cross_entropy"):
    model = sequential(layers, input_shape).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(multiples(parameter.shape, 0.5))
    if layers[0]["kind"] == "embedding":
        inputs = torch.randint(0, layers[0]["tokens"], (batch, *input_shape)).double()
    else:
        inputs = multiples((batch, *input_shape), 1.0)
    targets, loss, correct = answers(loss_name, model(inputs))
    loss.backward()
    spec = {"input": input_shape, "layers": layers}
    return {
        "name": name,
        "spec": spec if loss_name == "softmax_cross_entropy" else {**spec, "loss": loss_name},
        "inputs": inputs.flatten().tolist(),
        "targets": targets.flatten().tolist(),
        "loss_sum": loss.item(),
        "correct": correct,
        "parameters": [
            {
                "name": name,
                "shape": list(parameter.shape),
                "values": parameter.flatten().tolist(),
                "gradient": [float(f"{value:.9g}") for value in parameter.grad.flatten().tolist()],
            }
            for name, parameter in model.named_parameters()
        ],
    }


if __name__ == "__main__":
    made = [golden(name, *described) for name, described in MODELS.items()]
    path = pathlib.Path(__file__).with_name("models.json")
    lines = ",\n".join(json.dumps(model, separators=(",", ":")) for model in made)
    path.write_text(f'{{"torch":"{torch.__version__}","models":[\n{lines}\n]}}\n')
