"""The built-in datasets: each file declares one and registers it in `ga2clip.registry.DATASETS` under its name."""
