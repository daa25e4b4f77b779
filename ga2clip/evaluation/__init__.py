"""Measurements of runs under the field's protocols, and predictions by torch."""
