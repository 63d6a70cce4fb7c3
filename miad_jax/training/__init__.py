"""Training: a pure step, the loop around it, and checkpoints that hold everything."""

from miad_jax.training.checkpoint import Checkpoints
from miad_jax.training.data import TrainingData, load_training_data
from miad_jax.training.initial import Initial
from miad_jax.training.loop import NonFiniteLossError, train
from miad_jax.training.state import TrainState, make_optimizer
from miad_jax.training.step import Objective, train_step, validation_loss
from miad_jax.training.tasks import Tasks

__all__ = [
    "Checkpoints",
    "Initial",
    "NonFiniteLossError",
    "Objective",
    "Tasks",
    "TrainState",
    "TrainingData",
    "load_training_data",
    "make_optimizer",
    "train",
    "train_step",
    "validation_loss",
]
