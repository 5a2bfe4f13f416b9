"""The network while it is trained: one optimizer step for each batch, on this machine or on several together.

`fit` decides which pictures a step sees and which weights are the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.dataset.pictures import Shape
from twinship_training.networks.architectures import Architecture, Recipe
from twinship_training.signals import deferred
from twinship_training.tf_import import silenced, tensorflow

#: Weights of neighbouring steps are nearly equal, and reading all weights takes about as long as a step.
AVERAGED_EVERY: Final = 16  # steps

Weights = list[NDArray[np.float32]]


class Trainer:
    """A network in training, and a second one with the weights to evaluate.

    `steps` is the number of all steps; the learning rate depends on it. `strategy` is tf.distribute's.
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
        self._spec = architecture.spec(shape)
        self._average: Weights = []
        with silenced():
            keras.backend.clear_session()
            keras.utils.set_random_seed(seed)
            tf.config.experimental.enable_op_determinism()
            self.evaluated = architecture.build(shape, classes)
            with strategy.scope():
                self._model = architecture.build(shape, classes)
                self._model.compile(
                    optimizer=keras.optimizers.Adam(_rate(keras, recipe, steps)), loss=architecture.loss
                )
                self._model.optimizer.build(self._model.trainable_variables)
        self._step = tf.function(self._distributed_step)
        self._mean = tf.function(self._distributed_mean)

    def run_epoch(
        self, images: NDArray[np.uint8], labels: NDArray[Any], on_step: Callable[[int], None]
    ) -> float:
        """Train on these pictures once, in this order, and return the mean loss.

        `on_step` gets the number of finished steps. Afterwards `evaluated` has the weights that the recipe
        asks for: the average, or the last ones.
        """
        self._model.reset_metrics()
        with self._strategy.scope(), deferred() as handle_signals:
            for number, batch in enumerate(self._batches(images, labels), start=1):
                handle_signals()
                self._step(batch)
                if self._recipe.average and self._model.optimizer.iterations.numpy() % AVERAGED_EVERY == 0:
                    self._add_to_average()
                on_step(number)
            self.evaluated.set_weights(self._synchronised(self._average or self._model.get_weights()))
            return float(self._model.get_metrics_result()["loss"])

    def begin(self) -> None:
        """Train from the weights of `evaluated` on, instead of the initial ones."""
        self._model.set_weights(self.evaluated.get_weights())

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

    def _batches(self, images: NDArray[np.uint8], labels: NDArray[Any]) -> Iterable[Any]:
        """Several machines share each batch, so an incomplete last batch is left out there.

        The pixels become numbers batch by batch, because those of all pictures take four times the memory.
        """
        tf, _ = tensorflow()
        scale, offset = np.float32(self._spec.scale), np.float32(self._spec.offset)
        several = self._strategy.num_replicas_in_sync > 1
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        pictures = tf.data.Dataset.from_tensor_slices((images, labels)).with_options(options)
        batches = pictures.batch(min(self._recipe.batch, len(labels)), drop_remainder=several)
        batches = batches.map(lambda pixels, truth: (tf.cast(pixels, tf.float32) * scale + offset, truth))
        distributed: Iterable[Any] = self._strategy.experimental_distribute_dataset(batches)
        return distributed

    def _distributed_step(self, batch: Any) -> None:
        # Keras 3's fit() fails under MultiWorkerMirroredStrategy (keras-team/keras#20585); its step works.
        self._strategy.run(self._model.train_step, args=(batch,))

    def _distributed_mean(self, values: list[Any]) -> Any:
        tf, _ = tensorflow()

        def mean(*mine: Any) -> Any:
            local = [tf.identity(one) for one in mine]  # all_reduce needs values on this replica's device
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, local)

        return self._strategy.run(mean, args=tuple(values))

    def _synchronised(self, weights: Weights) -> Weights:
        """Equal weights on every machine. Batch normalisation's averages differ, each saw other pictures."""
        if self._strategy.num_replicas_in_sync == 1:
            return weights
        return [self._strategy.experimental_local_results(one)[0].numpy() for one in self._mean(weights)]

    def _add_to_average(self) -> None:
        latest = self._model.get_weights()
        keep = 1 - AVERAGED_EVERY / self._recipe.average
        before = self._average or latest
        self._average = [keep * old + (1 - keep) * new for old, new in zip(before, latest, strict=True)]


def _rate(keras: Any, recipe: Recipe, steps: int) -> Any:
    warm_up = max(1, steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=recipe.rate, warmup_steps=warm_up
    )
