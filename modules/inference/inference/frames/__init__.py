"""The path of a frame: queue, pre-processing, invoke, prediction, stage times."""
