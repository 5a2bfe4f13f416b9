"""Advice from measured figures: edge or cloud, which model, which device."""
