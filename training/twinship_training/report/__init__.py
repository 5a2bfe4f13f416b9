"""What a training writes: metrics.json, the model card and its plots."""
