"""The operator's side: signing keys, publish, deploy, status, monitor; alone in asking IoT Hub's service API.

Every public function returns data and raises only the FleetError family; showing either is for the command.
"""


class FleetError(Exception):
    """One line for a person: it names the thing and the cure. It never holds a key or a connection string."""
