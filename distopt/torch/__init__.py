"""PyTorch optimizers with a step that spans all replicas of an MPI job."""

from typing import Any

from distopt.errors import MissingExtra

try:
    import torch as _torch
except ModuleNotFoundError:
    raise MissingExtra.of("distopt.torch", "torch") from None

from distopt.torch.adabelief import AdaBelief
from distopt.torch.adadelta import Adadelta
from distopt.torch.adafactor import Adafactor
from distopt.torch.adagrad import Adagrad
from distopt.torch.adam import Adam, AdamW
from distopt.torch.adamax import Adamax
from distopt.torch.batch_sampler import DistributedBatchSampler
from distopt.torch.collectives import all_gather, all_reduce, broadcast
from distopt.torch.data_loader import DataLoader
from distopt.torch.diloco import DiLoCo
from distopt.torch.distributed_optimizer import DistributedOptimizer
from distopt.torch.join import join
from distopt.torch.lamb import LAMB
from distopt.torch.lars import LARS
from distopt.torch.lion import Lion
from distopt.torch.local_sgd import LocalSGD
from distopt.torch.muon import Muon
from distopt.torch.nadam import NAdam
from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.radam import RAdam
from distopt.torch.replicas import rank, size
from distopt.torch.rmsprop import RMSprop
from distopt.torch.sampler import DistributedSampler
from distopt.torch.schedule_free import AdamWScheduleFree, ScheduleFree, SGDScheduleFree
from distopt.torch.sgd import SGD
from distopt.torch.sparse_adam import SparseAdam
from distopt.torch.sync_batch_norm import SyncBatchNorm, convert_sync_batchnorm

__all__ = [
    "LAMB",
    "LARS",
    "SGD",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "DataLoader",
    "DiLoCo",
    "DistributedBatchSampler",
    "DistributedOptimizer",
    "DistributedSampler",
    "Lion",
    "LocalSGD",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "SGDScheduleFree",
    "ScheduleFree",
    "SparseAdam",
    "StepOptions",
    "SyncBatchNorm",
    "all_gather",
    "all_reduce",
    "broadcast",
    "convert_sync_batchnorm",
    "join",
    "rank",
    "size",
]


def __getattr__(name: str) -> Any:
    found = getattr(_torch.optim, name, None)
    if isinstance(found, type) and issubclass(found, _torch.optim.Optimizer):
        raise AttributeError(
            f"distopt.torch has no {name} of its own: use DistributedOptimizer(torch.optim.{name}(...))",
            name=name,
        )
    raise AttributeError(f"module 'distopt.torch' has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return __all__
