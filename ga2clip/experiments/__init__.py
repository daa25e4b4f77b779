"""Experiments that consist of several runs."""
