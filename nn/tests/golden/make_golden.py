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


def conv(filters, kernel, stride=1, padding=0):
    return {"kind": "conv2d", "filters": filters, "kernel": kernel, "stride": stride, "padding": padding}


def pool(size, stride=None):
    return {"kind": "max_pool2d", "size": size, **({} if stride is None else {"stride": stride})}


RELU, FLATTEN = {"kind": "relu"}, {"kind": "flatten"}

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
}


def module(layer, incoming):
    """The PyTorch module of a layer, given the shape that comes in."""
    keys = {key: tuple(value) if isinstance(value, list) else value for key, value in layer.items()}
    kind = keys.pop("kind")
    if kind == "linear":
        return torch.nn.Linear(incoming[0], keys["outputs"])
    if kind == "conv2d":
        return torch.nn.Conv2d(incoming[0], keys["filters"], keys["kernel"], keys["stride"], keys["padding"])
    if kind == "max_pool2d":
        return torch.nn.MaxPool2d(keys["size"], keys.get("stride"))
    return {"flatten": torch.nn.Flatten, "relu": torch.nn.ReLU}[kind]()


def multiples(shape, bound):
    return torch.round((torch.rand(shape) * 2 - 1) * bound * 256).double() / 256


def golden(name, input_shape, batch, layers):
    modules, shape = [], tuple(input_shape)
    for layer in layers:
        modules.append(module(layer, shape))
        shape = tuple(torch.nn.Sequential(*modules)(torch.zeros(1, *input_shape)).shape[1:])
    model = torch.nn.Sequential(*modules).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(multiples(parameter.shape, 0.5))
    inputs = multiples((batch, *input_shape), 1.0)
    labels = torch.randint(0, shape[0], (batch,))
    logits = model(inputs)
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    loss.backward()
    return {
        "name": name,
        "spec": {"input": input_shape, "layers": layers},
        "inputs": inputs.flatten().tolist(),
        "labels": labels.tolist(),
        "loss_sum": loss.item(),
        "correct": int((logits.argmax(dim=1) == labels).sum()),
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
    made = [golden(name, shape, batch, layers) for name, (shape, batch, layers) in MODELS.items()]
    path = pathlib.Path(__file__).with_name("models.json")
    lines = ",\n".join(json.dumps(model, separators=(",", ":")) for model in made)
    path.write_text(f'{{"torch":"{torch.__version__}","models":[\n{lines}\n]}}\n')
