"""MQTT 3.1.1 as bytes: packets and the server side of one connection."""
