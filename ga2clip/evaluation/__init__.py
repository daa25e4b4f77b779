"""Evaluation of runs under the usual protocols, and predictions by torch."""
