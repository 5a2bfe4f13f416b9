"""The commands of `twinship`. Each one parses its options, calls one package and prints the result."""
