"""Frames from a folder of pictures or a seeded scene, paced and stamped, onto an edgeHub route."""
