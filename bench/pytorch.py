#!/usr/bin/env python3
"""Measures PyTorch's gradient steps on one thread, for bench/src/engine/native.rs.

Usage: pytorch.py '{"model": …, "batch": …, "seed": …, "parameters": …, "seconds": …}'; with null it tells its version.
Prints JSON: units_per_second and threads, or version, or error.
"""

import json
import math
import pathlib
import statistics
import sys
import time

LEAST_WARM_UP_STEPS = 3
LEAST_WARM_UP_SECONDS = 1
# Long enough for the clock, short enough that some windows stay undisturbed.
WINDOW_SECONDS = 0.2
LEAST_WINDOWS = 3


def units_per_second(step, units, seconds):
    """The median of windows of time; a step is `units`."""
    began = time.perf_counter()
    warm_up_steps = 0
    while warm_up_steps < LEAST_WARM_UP_STEPS or time.perf_counter() - began < LEAST_WARM_UP_SECONDS:
        step()
        warm_up_steps += 1
    rates = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(rates) < LEAST_WINDOWS:
        window = time.perf_counter()
        steps = 0
        while (elapsed := time.perf_counter() - window) < WINDOW_SECONDS:
            step()
            steps += 1
        rates.append(steps * units / elapsed)
    return statistics.median(rates)


def measure(torch, request):
    """Samples per second of gradient steps."""
    # The modules that our layers are checked against are those that they are measured against.
    sys.path.append(str(pathlib.Path(__file__).parents[1] / "nn/tests/golden"))
    from make_golden import sequential

    torch.set_num_threads(1)
    torch.manual_seed(request["seed"])
    batch = request["batch"]
    spec = request["model"]
    shape, layers = spec["input"], spec["layers"]
    model = sequential(layers, shape)
    parameters = list(model.parameters())
    if layers[0]["kind"] == "embedding":
        inputs = torch.randint(0, layers[0]["tokens"], (batch, *shape)).float()
    else:
        inputs = torch.rand(batch, *shape) * 2 - 1
    with torch.no_grad():
        *positions, classes = model(inputs).shape
    labels = torch.arange(math.prod(positions)) % classes
    loss = torch.nn.CrossEntropyLoss()

    def step():
        model.zero_grad(set_to_none=True)
        loss(model(inputs).reshape(-1, classes), labels).backward()
        return [parameter.grad.numpy() for parameter in parameters]

    floats = sum(gradient.size for gradient in step())
    if floats != request["parameters"]:
        raise ValueError(f"{floats} floats of gradients, not {request['parameters']}")
    return {
        "units_per_second": units_per_second(step, batch, request["seconds"]),
        "threads": torch.get_num_threads(),
    }


def version(torch):
    """Its version, and whether its matrix products are OpenBLAS's or MKL's: without either it is no fair peer."""
    torch.ones(2, 2) @ torch.ones(2, 2)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        libraries = maps.read()
    products = [name for name in ("OpenBLAS", "MKL") if "lib" + name.lower() in libraries]
    has_own = torch.backends.mkl.is_available()
    with_products = " with " + products[0] if products else " with MKL" if has_own else " without OpenBLAS"
    return {"version": f"PyTorch {torch.__version__}{with_products}"}


def main():
    try:
        import torch
    except ImportError:
        sentence = "PyTorch was left out: it is not installed (on Debian: python3-torch and libopenblas0-pthread)"
        return {"error": sentence}
    request = json.loads(sys.argv[1])
    try:
        return version(torch) if request is None else measure(torch, request)
    except Exception as error:  # Whatever it is, the table says it in its words.
        return {"error": str(error)}


print(json.dumps(main()))
