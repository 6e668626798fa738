"""The sides of `bench conv`: each file is the program of an interpreter (see `peer`), which may lack this package.

In all of them `use_threads(n)` is called first, and `workload(map_name, geometry, operands, variant)` takes a dict of
`Conv2dGeometry`'s fields, two files of `numpy.save`, and one of the side's own settings. `result(run)` has the shape
(N, C, H, W), or that of the filters.
"""
