"""Camera module: paced frames from a folder of pictures, a drawn scene, a video file or a camera."""
