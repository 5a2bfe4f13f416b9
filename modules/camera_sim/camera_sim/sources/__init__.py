"""Sources of pictures: a folder, a drawn scene, and video in a child process."""
