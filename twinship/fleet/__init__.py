"""The operator's side of IoT Hub: signing keys, publish, deploy, status, rollback, monitor.

Public functions return data and raise only FleetError and its subclasses. No other package calls IoT Hub's
service API.
"""


class FleetError(Exception):
    """One line for a person: what is wrong and the cure. It never contains a key or a connection string."""
