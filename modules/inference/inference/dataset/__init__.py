"""Labelled pictures from files: folders, .npz files, MNIST and Fashion-MNIST as Keras stores them.

`twinship verify` evaluates an artefact on test pictures and works without twinship-training. It must use the
test pictures that the training held out, and this code chooses them where a folder has no `test/`. So one
reader serves both; it needs only numpy and Pillow.
"""
