"""A run folder goes in, a verified ONNX bundle comes out; `runtime` reads bundles without torch."""
