"""The optimizers of Keras, their base classes, and learning-rate schedules."""

from distopt.optimizers import schedules
from distopt.optimizers.adabelief import AdaBelief
from distopt.optimizers.adadelta import Adadelta
from distopt.optimizers.adafactor import Adafactor
from distopt.optimizers.adagrad import Adagrad
from distopt.optimizers.adam import Adam
from distopt.optimizers.adamax import Adamax
from distopt.optimizers.adamw import AdamW
from distopt.optimizers.diloco import DiLoCo
from distopt.optimizers.ftrl import Ftrl
from distopt.optimizers.identify import deserialize, get, registry, serialize
from distopt.optimizers.lamb import LAMB
from distopt.optimizers.lars import LARS
from distopt.optimizers.lion import Lion
from distopt.optimizers.local_sgd import LocalSGD
from distopt.optimizers.loss import loss_factor
from distopt.optimizers.loss_scale_optimizer import LossScaleOptimizer
from distopt.optimizers.muon import Muon
from distopt.optimizers.nadam import Nadam
from distopt.optimizers.optimizer import Optimizer
from distopt.optimizers.radam import RAdam
from distopt.optimizers.rmsprop import RMSprop
from distopt.optimizers.rule_optimizer import RuleOptimizer
from distopt.optimizers.schedule_free import ScheduleFree
from distopt.optimizers.schedule_free_adamw import ScheduleFreeAdamW
from distopt.optimizers.sgd import SGD
from distopt.optimizers.whole_variable import WholeVariableOptimizer

#: Its name in Keras 3.
Lamb = LAMB

__all__ = [
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "DiLoCo",
    "Ftrl",
    "LAMB",
    "LARS",
    "Lamb",
    "Lion",
    "LocalSGD",
    "LossScaleOptimizer",
    "Muon",
    "Nadam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "RuleOptimizer",
    "SGD",
    "ScheduleFree",
    "ScheduleFreeAdamW",
    "WholeVariableOptimizer",
    "deserialize",
    "get",
    "loss_factor",
    "schedules",
    "serialize",
]

registry.add(DiLoCo, LocalSGD, LossScaleOptimizer, ScheduleFree, ScheduleFreeAdamW)
