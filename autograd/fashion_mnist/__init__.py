"""The embedded subset of Fashion-MNIST: four gzipped IDX files under their upstream names, read by `autograd.data`."""
