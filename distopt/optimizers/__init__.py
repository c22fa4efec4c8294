"""The optimizers of Keras, their base class, and learning-rate schedules."""

from distopt.optimizers import schedules
from distopt.optimizers.adabelief import AdaBelief
from distopt.optimizers.adadelta import Adadelta
from distopt.optimizers.adagrad import Adagrad
from distopt.optimizers.adam import Adam
from distopt.optimizers.adamax import Adamax
from distopt.optimizers.adamw import AdamW
from distopt.optimizers.ftrl import Ftrl
from distopt.optimizers.identify import deserialize, get, registry, serialize
from distopt.optimizers.lion import Lion
from distopt.optimizers.loss_scale_optimizer import LossScaleOptimizer
from distopt.optimizers.nadam import Nadam
from distopt.optimizers.optimizer import Optimizer
from distopt.optimizers.radam import RAdam
from distopt.optimizers.rmsprop import RMSprop
from distopt.optimizers.rule_optimizer import RuleOptimizer
from distopt.optimizers.schedule_free import ScheduleFree
from distopt.optimizers.schedule_free_adamw import ScheduleFreeAdamW
from distopt.optimizers.sgd import SGD

__all__ = [
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lion",
    "LossScaleOptimizer",
    "Nadam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "RuleOptimizer",
    "SGD",
    "ScheduleFree",
    "ScheduleFreeAdamW",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]

registry.add(LossScaleOptimizer, ScheduleFree, ScheduleFreeAdamW)
