"""The measurements. Each module has a function `measure`."""
