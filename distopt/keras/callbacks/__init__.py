"""Callbacks, which run before and after epochs and batches."""

from distopt.keras.callbacks.averaging import ExponentialMovingAverage
from distopt.keras.callbacks.backup import BackupAndRestore
from distopt.keras.callbacks.callback import Callback, CallbackList
from distopt.keras.callbacks.files import CSVLogger, ModelCheckpoint
from distopt.keras.callbacks.functions import LambdaCallback
from distopt.keras.callbacks.history import History
from distopt.keras.callbacks.learning_rate import LearningRateScheduler, LearningRateWarmup, ReduceLROnPlateau
from distopt.keras.callbacks.progress import ProgressBar
from distopt.keras.callbacks.stopping import EarlyStopping, TerminateOnNaN
from distopt.keras.callbacks.tensorboard import TensorBoard

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "LearningRateWarmup",
    "ModelCheckpoint",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]
