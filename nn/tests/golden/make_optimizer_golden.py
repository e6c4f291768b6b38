# Writes optimizer.json: what torch.optim makes of given parameters and gradients, for tests/optimizer_golden.rs to
# compare.
#
# Needs PyTorch (Debian: python3-torch). Run it in its own directory: `/usr/bin/python3 make_optimizer_golden.py`.

import json

import torch

PARAMETERS = 7
STEPS = 20



class NAdamW(torch.optim.NAdam):
    """NAdam with decoupled weight decay, which this PyTorch's NAdam does not have."""

    def __init__(self, parameters, lr, decoupled_weight_decay, **settings):
        super().__init__(parameters, lr=lr, **settings)
        self.decoupled_weight_decay = decoupled_weight_decay

    def step(self):
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(1 - group["lr"] * self.decoupled_weight_decay)
        super().step()


# PyTorch's NAdam raises its momentum from beta1 / 2 to beta1, by 0.96 ** (step * momentum_decay); with this it is
# constant.
# `foreach` because the other path of PyTorch 1 divides by a wrong power (pytorch/pytorch, pull request 92699).
CONSTANT_MOMENTUM = {"momentum_decay": 1e6, "foreach": True}

CASES = [
    ({"kind": "sgd"}, torch.optim.SGD, {}),
    ({"kind": "sgd", "weight_decay": 0.01}, torch.optim.SGD, {"weight_decay": 0.01}),
    ({"kind": "sgd", "momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
    (
        {"kind": "sgd", "momentum": 0.8, "nesterov": True, "weight_decay": 0.05},
        torch.optim.SGD,
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05},
    ),
    ({"kind": "adam"}, torch.optim.Adam, {}),
    (
        {"kind": "adam", "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3, "weight_decay": 0.1},
        torch.optim.Adam,
        {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
    ),
    ({"kind": "adamw"}, torch.optim.AdamW, {"weight_decay": 0.0}),
    ({"kind": "adamw", "weight_decay": 0.1}, torch.optim.AdamW, {"weight_decay": 0.1}),
    ({"kind": "adam", "nesterov": True}, torch.optim.NAdam, CONSTANT_MOMENTUM),
    (
        {"kind": "adam", "beta1": 0.8, "epsilon": 1e-3, "weight_decay": 0.1, "nesterov": True},
        torch.optim.NAdam,
        {"betas": (0.8, 0.999), "eps": 1e-3, "weight_decay": 0.1, **CONSTANT_MOMENTUM},
    ),
    (
        {"kind": "adamw", "weight_decay": 0.1, "nesterov": True},
        NAdamW,
        {"decoupled_weight_decay": 0.1, **CONSTANT_MOMENTUM},
    ),
]


def learning_rate(step):
    """One that changes, because a schedule gives another one at every step."""
    return 0.1 / (1 + step)


def trajectory(optimizer_class, settings, start, gradients):
    """The parameters after every step."""
    parameters = torch.nn.Parameter(start.clone())
    optimizer = optimizer_class([parameters], lr=learning_rate(0), **settings)
    after = []
    for step, gradient in enumerate(gradients):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        parameters.grad = gradient.clone()
        optimizer.step()
        after.append(parameters.detach().tolist())
    return after


def main():
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(PARAMETERS, generator=generator)
    gradients = torch.randn(STEPS, PARAMETERS, generator=generator)
    gradients[:, 0] *= 1e-6  # where Adam's epsilon matters
    gradients[:, 1] *= 1e3
    gradients[:, 2] = 0
    golden = {
        "torch": torch.__version__,
        "learning_rates": [learning_rate(step) for step in range(STEPS)],
        "start": start.tolist(),
        "gradients": gradients.tolist(),
        "cases": [
            {"spec": spec, "parameters": trajectory(optimizer_class, settings, start, gradients)}
            for spec, optimizer_class, settings in CASES
        ],
    }
    with open("optimizer.json", "w") as file:
        json.dump(golden, file, indent=None, separators=(",", ":"))
        file.write("\n")


main()
