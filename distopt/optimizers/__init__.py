"""The optimizers of Keras, their base class, and learning-rate schedules."""

from distopt.optimizers import schedules
from distopt.optimizers.adabelief import AdaBelief
from distopt.optimizers.adadelta import Adadelta
from distopt.optimizers.adagrad import Adagrad
from distopt.optimizers.adam import Adam
from distopt.optimizers.adamax import Adamax
from distopt.optimizers.adamw import AdamW
from distopt.optimizers.ftrl import Ftrl
from distopt.optimizers.identify import deserialize, get, serialize
from distopt.optimizers.lamb import LAMB
from distopt.optimizers.lars import LARS
from distopt.optimizers.lion import Lion
from distopt.optimizers.nadam import Nadam
from distopt.optimizers.optimizer import Optimizer
from distopt.optimizers.radam import RAdam
from distopt.optimizers.rmsprop import RMSprop
from distopt.optimizers.rule_optimizer import RuleOptimizer
from distopt.optimizers.sgd import SGD

#: Its name in Keras 3.
Lamb = LAMB

__all__ = [
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "LAMB",
    "LARS",
    "Lamb",
    "Lion",
    "Nadam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "RuleOptimizer",
    "SGD",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]
