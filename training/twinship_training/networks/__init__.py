"""The networks with their hyper-parameters and targets, and the distortion of pictures."""
