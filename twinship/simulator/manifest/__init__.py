"""The deployment template: placeholders, create options, modules, routes."""
