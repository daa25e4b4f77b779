"""Export of runs to ONNX bundles that are verified against torch; `ga2clip.runtime` reads them without torch."""
