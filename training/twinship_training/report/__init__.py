"""The results of a training: metrics.json, the model card and its plots."""
