"""The zoo of trained backbones: files in 16 bits with a manifest, shared ones once, and folders made of them."""
