"""Unmodified AMQP clients of others against the real hub process."""
