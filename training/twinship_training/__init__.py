"""Train a picture classifier or a detector and ship it as a verified TFLite artefact.

Read the files in the order in which a training runs:

1. `data/`      read pictures, drop duplicates, split into training, validation and test
2. `networks/`  the networks and every hyper-parameter; distortion of pictures
3. `fit`        the loop over epochs (`trainer` makes the steps, `checkpoint` stores each epoch), then
               `networks.calibrate`: confidences that agree with the accuracy
4. `convert`    from the Keras model to a TFLite flatbuffer, in one of four optimisations, with
               `tflite_metadata` for the tools of others
5. `evaluate`   thresholds for the converted model, and the choice of its probes
6. `choose`     the smallest of several networks that keeps within the limits
7. `report/`    metrics.json, model card, plots

`trial` does steps 3 to 5 for one network, `train` does everything. TensorFlow is imported when a training
begins, not when this package is imported.
"""


class TrainingError(Exception):
    """The training failed; the message is one line with the cure."""
