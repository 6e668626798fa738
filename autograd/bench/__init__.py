"""Benchmarks: ratios against a peer, interleaved with it round by round, each side in its own interpreter."""
