"""Makes an artefact of a TFLite model that somebody else made: `twinship package`.

`flatbuffer` reads tables, `model_file` a TFLite file and its metadata, `choose` decides how the model's input
and output are to be understood, and `package` makes probes, proves the artefact and writes it.
"""


class NotPackaged(ValueError):
    """The file cannot become an artefact; one line with the reason and the cure."""
