"""The path of a model: download, verification, proof, probation, rollback."""
