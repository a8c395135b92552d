"""TensorRT: `building` makes engines, `engines` keeps them, `cuda` and `runner` run them."""
