"""One file declares one dataset and registers it in `ga2clip.registry.DATASETS` under the file's name."""
