"""Programs of images that stand in for Microsoft's, which the tests cannot pull."""
