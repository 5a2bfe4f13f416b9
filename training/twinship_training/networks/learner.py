"""The network while it learns: one step for each batch, on this machine or shared among several.

Which pictures, how many epochs and which weights are kept is `fit`'s; the numbers are `architectures`'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinship_training.data import Shape
from twinship_training.networks.architectures import Architecture, Recipe
from twinship_training.signals import deferred
from twinship_training.tf_import import silenced, tensorflow

#: Neighbours are nearly equal, and to read all weights takes about as long as a step.
AVERAGED_EVERY: Final = 16  # steps

Weights = list[NDArray[np.float32]]


class Learner:
    """A network that learns, and beside it the same network with the weights to be judged.

    `steps` is how many there will be in all: the learning rate follows them. `strategy` is TensorFlow's word
    for the machines that share each step.
    """

    def __init__(
        self,
        architecture: Architecture,
        recipe: Recipe,
        shape: Shape,
        classes: int,
        *,
        seed: int,
        steps: int,
        strategy: Any,
    ) -> None:
        tf, keras = tensorflow()
        self._recipe, self._strategy = recipe, strategy
        self._average: Weights = []
        with silenced():
            keras.backend.clear_session()
            keras.utils.set_random_seed(seed)
            tf.config.experimental.enable_op_determinism()
            self.judged = architecture.build(shape, classes)
            with strategy.scope():
                self._model = architecture.build(shape, classes)
                self._model.compile(
                    optimizer=keras.optimizers.Adam(_rate(keras, recipe, steps)), loss=architecture.loss
                )
                self._model.optimizer.build(self._model.trainable_variables)
        self._step = tf.function(self._shared_step)
        self._mean = tf.function(self._shared_mean)

    def epoch(
        self, images: NDArray[np.float32], labels: NDArray[np.int64], told: Callable[[int], None]
    ) -> float:
        """Show these once, in this order: the mean loss. `told` hears how many steps are done.

        Afterwards `judged` has the weights that the recipe wants judged: the average, or the last ones.
        """
        self._model.reset_metrics()
        with self._strategy.scope(), deferred() as interrupted:
            for number, batch in enumerate(self._batches(images, labels), start=1):
                interrupted()
                self._step(batch)
                if self._recipe.average and self._model.optimizer.iterations.numpy() % AVERAGED_EVERY == 0:
                    self._add_to_average()
                told(number)
            self.judged.set_weights(self._agreed(self._average or self._model.get_weights()))
            return float(self._model.get_metrics_result()["loss"])

    @property
    def state(self) -> tuple[Weights, Weights]:
        """All that later steps depend on: variables of model and optimizer, seeds of layers; the average."""
        return [variable.numpy() for variable in self._variables], self._average

    @state.setter
    def state(self, state: tuple[Weights, Weights]) -> None:
        values, self._average = state
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    @property
    def _variables(self) -> list[Any]:
        return [*self._model.variables, *self._model.optimizer.variables]

    def _batches(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> Iterable[Any]:
        """Among several machines each gets its part of every batch, and no batch is too small to share."""
        tf, _ = tensorflow()
        several = self._strategy.num_replicas_in_sync > 1
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        pictures = tf.data.Dataset.from_tensor_slices((images, labels)).with_options(options)
        batches = pictures.batch(min(self._recipe.batch, len(labels)), drop_remainder=several)
        found: Iterable[Any] = self._strategy.experimental_distribute_dataset(batches)
        return found

    def _shared_step(self, batch: Any) -> None:
        # Keras 3's fit() fails under MultiWorkerMirroredStrategy (keras-team/keras#20585); its step works.
        self._strategy.run(self._model.train_step, args=(batch,))

    def _shared_mean(self, values: list[Any]) -> Any:
        tf, _ = tensorflow()

        def mean(*mine: Any) -> Any:
            here = [tf.identity(one) for one in mine]  # on this replica's device, else there is none to share
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, here)

        return self._strategy.run(mean, args=tuple(values))

    def _agreed(self, weights: Weights) -> Weights:
        """The same on every machine: what batch normalisation records is of the pictures seen there."""
        if self._strategy.num_replicas_in_sync == 1:
            return weights
        return [self._strategy.experimental_local_results(one)[0].numpy() for one in self._mean(weights)]

    def _add_to_average(self) -> None:
        latest = self._model.get_weights()
        keep = 1 - AVERAGED_EVERY / self._recipe.average
        before = self._average or latest
        self._average = [keep * old + (1 - keep) * new for old, new in zip(before, latest, strict=True)]


def _rate(keras: Any, recipe: Recipe, steps: int) -> Any:
    if not recipe.cosine:
        return recipe.rate
    warm_up = max(1, steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=recipe.rate, warmup_steps=warm_up
    )
