"""What update rules are tried with: ``(optimizer's name, options, {step: options changed before it})``."""

from distopt.torch.rules.adadelta import AdadeltaUpdate
from distopt.torch.rules.adagrad import AdagradUpdate
from distopt.torch.rules.adam import AdamUpdate
from distopt.torch.rules.adamax import AdamaxUpdate
from distopt.torch.rules.nadam import NAdamUpdate
from distopt.torch.rules.radam import RAdamUpdate
from distopt.torch.rules.rmsprop import RMSpropUpdate
from distopt.torch.rules.sgd import SGDUpdate
from distopt.torch.rules.sparse_adam import SparseAdamUpdate

UPDATES = {
    "SGD": SGDUpdate(),
    "Adam": AdamUpdate(),
    "AdamW": AdamUpdate(),
    "RMSprop": RMSpropUpdate(),
    "Adagrad": AdagradUpdate(),
    "Adadelta": AdadeltaUpdate(),
    "Adamax": AdamaxUpdate(),
    "NAdam": NAdamUpdate(),
    "RAdam": RAdamUpdate(),
    "SparseAdam": SparseAdamUpdate(),
}
#: Those that take dense gradients.
DENSE = [name for name in UPDATES if name != "SparseAdam"]

LATER_LR = {20: {"lr": 0.004}}
#: Betas in the order in which they are tried: from a mean that forgets at once to one that hardly does.
LATER_BETAS = {10: {"betas": (0.4, 0.999)}, 20: {"betas": (0.95, 0.9)}}
DECAYED = {"weight_decay": 0.1}
UP = {"maximize": True}
BOTH = {**DECAYED, **UP}


def cases_of(names, *options):
    return [(name, *(pair if isinstance(pair, tuple) else (pair, {}))) for name in names for pair in options]


CASES = [
    *cases_of(
        DENSE,
        {},
        DECAYED,
        {"weight_decay": 0},
        UP,
        (BOTH, LATER_LR),
        ({}, {10: DECAYED, 20: UP}),
        {"lr": 0.5},
        {"lr": 0.0},
    ),
    *cases_of(
        ["SGD"],
        ({"momentum": 0.9}, LATER_LR),
        {"momentum": 0.9, "dampening": 0.3},
        ({"momentum": 0.9, "dampening": 0.3, **BOTH}, LATER_LR),
        ({"momentum": 0.9, "nesterov": True}, LATER_LR),
        {"momentum": 0.9, "nesterov": True, **BOTH},
        ({"momentum": 0.9, "dampening": 0.3}, {10: {"momentum": 0}, 20: {"momentum": 0.5}}),
        ({"dampening": 0.3}, {10: {"momentum": 0.9}, 20: DECAYED}),
        ({"momentum": 0.9}, {10: {"nesterov": True}, 20: {"dampening": 0.5}}),
    ),
    *cases_of(
        ["Adam", "AdamW"],
        {"amsgrad": True},
        ({"amsgrad": True, "eps": 1e-3, **BOTH}, LATER_LR),
        ({"amsgrad": True}, LATER_BETAS),
    ),
    *cases_of(
        ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"],
        {"betas": (0.0, 0.9)},
        {"betas": (0.5, 0.999)},
        {"betas": (0.3, 0.0)},
        ({"betas": (0.9, 0.99), "eps": 0.5}, LATER_BETAS),
    ),
    *cases_of(
        ["Adam", "NAdam", "RAdam"],
        {"decoupled_weight_decay": True},
        ({"decoupled_weight_decay": True, **BOTH}, LATER_LR),
        ({"decoupled_weight_decay": True, **DECAYED}, {10: {"decoupled_weight_decay": False}}),
    ),
    *cases_of(
        ["NAdam"],
        {"momentum_decay": 0.0},
        ({"momentum_decay": 0.1}, {10: {"momentum_decay": 1.0}}),
        ({"momentum_decay": 0.1, **BOTH}, {**LATER_BETAS, 25: {"lr": 0.004}}),
    ),
    *cases_of(
        ["RMSprop"],
        {"alpha": 0.5},
        {"alpha": 0.2, "eps": 0.1},
        ({"momentum": 0.9}, LATER_LR),
        ({"momentum": 0.9, **BOTH}, {10: {"momentum": 0.5}, 20: {"momentum": 0}}),
        ({"centered": True, "eps": 0.01}, LATER_LR),
        ({"centered": True, "alpha": 0.4, "eps": 0.01, **BOTH}, {10: {"alpha": 0.6}}),
        {"centered": True, "momentum": 0.9, "eps": 0.01},
        ({"centered": True, "momentum": 0.9, "alpha": 0.9, "eps": 0.01, **BOTH}, LATER_LR),
    ),
    *cases_of(
        ["Adagrad"],
        {"lr_decay": 0.1},
        {"initial_accumulator_value": 0.7},
        {"eps": 0.5},
        ({"lr_decay": 0.1, "initial_accumulator_value": 0.7, **BOTH}, {10: {"lr_decay": 0.5}, **LATER_LR}),
    ),
    *cases_of(
        ["Adadelta"],
        {"rho": 0.0},
        ({"rho": 0.5, "eps": 0.1}, {10: {"rho": 0.95}}),
        ({"lr": 1.0, **BOTH}, LATER_LR),
    ),
]


def said(case):
    """A case in words."""
    name, options, changes = case
    pairs = [f"{key}={value}" for key, value in options.items()]
    later = [f"{key}={value}@{at}" for at, new in changes.items() for key, value in new.items()]
    return "-".join([name, *pairs, *later])
