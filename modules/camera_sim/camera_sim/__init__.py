"""Camera module: paced frames from a folder of pictures or a drawn scene."""
