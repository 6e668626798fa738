"""Tensors: arrays that can be differentiated through, and the two ways to ask for gradients."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .graph import Node, numbers, sweep
from .modes import recording


class Tensor:
    """An array that can be differentiated through.

    `data` is anything `numpy.asarray` turns into a real array (bool, integer or floating; no copy is made of an
    array). Tensors made by the user are leaves: with `requires_grad=True`, which takes a floating dtype, `backward`
    adds to their `grad`. A 0-d tensor is a scalar, held as a NumPy scalar.

    Raises TypeError for data that is not numeric, is complex or masked, or is not floating and requires a gradient.
    """

    __slots__ = ("__weakref__", "_data", "_node")
    __array_priority__ = 1000.0

    _data: Any
    _node: Node | None

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        self._data = _as_array(data, dtype)
        self._node = None
        if requires_grad:
            self.requires_grad_()

    @property
    def data(self) -> Any:
        """The array itself (a NumPy scalar if 0-d), not a copy. Writing into it bypasses the graph: see `debug`."""
        return self._data

    @data.setter
    def data(self, data: Any) -> None:
        if self._node is not None and self._node.plan is not None:
            raise RuntimeError(
                f"Tensor.data: this tensor is the result of {self._node!r}; only a leaf's data can be replaced"
            )
        array = _as_array(data, None)
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(
                f"Tensor.data: expected shape {self.shape} and dtype {self.dtype}, got {array.shape} and {array.dtype}"
            )
        self._data = array

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self._data.shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self._data.dtype
        return dtype

    @property
    def ndim(self) -> int:
        return len(self._data.shape)

    @property
    def size(self) -> int:
        return int(self._data.size)

    @property
    def requires_grad(self) -> bool:
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self.requires_grad_(requires_grad)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Makes this leaf require a gradient, or no longer. Returns self."""
        if self._node is not None and self._node.plan is not None:
            if not requires_grad:
                raise RuntimeError(
                    f"requires_grad: the result of {self._node!r} cannot stop requiring one; use detach()"
                )
        elif not requires_grad:
            self._node = None
        elif self._node is None:
            if self._data.dtype.kind != "f":
                dtype = f"dtype {self._data.dtype}"
                raise TypeError(f"requires_grad: only floating tensors have gradients, got {dtype}; write 3.0 for 3")
            self._node = Node(self._data, None, (), ())
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor."""
        return self._node is None or self._node.plan is None

    @property
    def grad(self) -> Tensor | None:
        """The sum of all `backward` calls' gradients so far: for leaves, and tensors asked to `retain_grad`."""
        return None if self._node is None else self._node.grad

    @grad.setter
    def grad(self, grad: Tensor | None) -> None:
        if grad is not None:
            grad = grad if isinstance(grad, Tensor) else Tensor(grad)
            if self._node is None:
                raise ValueError("Tensor.grad: this tensor does not require a gradient")
            if grad.shape != self.shape or grad.dtype != self.dtype:
                expected = f"shape {self.shape} and dtype {self.dtype}"
                raise ValueError(f"Tensor.grad: expected {expected}, got {grad.shape} and {grad.dtype}")
        if self._node is not None:
            self._node.grad = grad

    def retain_grad(self) -> None:
        """Asks `backward` to set `grad` on this tensor although it is not a leaf."""
        self._require_node("retain_grad").retains_grad = True

    def register_hook(self, hook: Callable[[Tensor], Any]) -> HookHandle:
        """Calls `hook(gradient)` in every backward sweep, when this tensor's gradient is complete.

        What the hook returns, unless None, replaces the gradient; it must have the same shape and dtype.
        """
        if not callable(hook):
            raise TypeError(f"register_hook: hook must be callable, got {hook!r}")
        node = self._require_node("register_hook")

        def run(g: Any) -> Any:
            result = hook(g if isinstance(g, Tensor) else wrap(g, None))
            if result is None:
                return g
            result = result if isinstance(result, Tensor) else Tensor(result)
            if result.shape != g.shape or result.dtype != g.dtype:
                expected = f"shape {g.shape} and dtype {g.dtype}"
                raise ValueError(f"register_hook: a hook must return {expected}, got {result.shape} and {result.dtype}")
            return result if isinstance(g, Tensor) else result._data.copy()

        node.hooks = {} if node.hooks is None else node.hooks
        node.hooks[key := next(numbers)] = run
        return HookHandle(node.hooks, key)

    def detach(self) -> Tensor:
        """A tensor on the same data that is not part of the graph."""
        return wrap(self._data, None)

    def backward(self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
        """Adds the gradient of this tensor with respect to every leaf below it to the leaf's `grad`.

        gradient: the gradient with respect to this tensor, of its shape; may be left out for a single element.
        retain_graph: keep what the rules need, so that the graph can be swept again (default: as `create_graph`).
        create_graph: record the sweep itself, so that the gradients can be differentiated.

        Either every `grad` is updated or, after an exception (Ctrl-C included), none is.
        """
        seeds = _seeds("backward", [self], [gradient], create_graph)
        keep = create_graph if retain_graph is None else retain_graph
        found = _owned(sweep(seeds, None, keep, wrap if create_graph else None), seeds)
        sums = [gradient if node.grad is None else node.grad + gradient for node, gradient in found.items()]
        # One call in C, between whose steps no signal handler runs: every gradient is committed, or none.
        deque(map(vars(Node)["grad"].__set__, found, sums), maxlen=0)

    def _require_node(self, function: str) -> Node:
        if self._node is None:
            raise RuntimeError(f"{function}: this tensor does not require a gradient, and no operation on one made it")
        return self._node

    def numpy(self) -> Any:
        """The data as an array. Raises TypeError for a tensor that requires a gradient: detach() it first."""
        return self.__array__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self._node is not None:
            raise TypeError("numpy.asarray: a tensor that requires a gradient would leave the graph; detach() it first")
        return np.array(self._data, dtype=dtype, copy=copy)

    def item(self) -> Any:
        """The only element as a Python number. Raises ValueError when there is not exactly one."""
        if self.size != 1:
            raise ValueError(f"item: the tensor must have one element, got shape {self.shape}")
        return self._data.item()

    def tolist(self) -> Any:
        return self._data.tolist()

    def __float__(self) -> float:
        return float(self._scalar("float"))

    def __int__(self) -> int:
        return int(self._scalar("int"))

    def _scalar(self, conversion: str) -> Any:
        # `math.sin(x)` and `array[0] = x` convert behind the user's back, and the gradient would be silently wrong.
        if self._node is not None and recording.get():
            raise TypeError(
                f"{conversion}: a tensor that requires a gradient would leave the graph; use item(), or no_grad()"
            )
        return self.item()

    def __index__(self) -> int:
        if self._data.dtype.kind not in "iu":
            raise TypeError(f"an index must be an integer, got a tensor of dtype {self.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self._data)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __repr__(self) -> str:
        values = np.array2string(np.asarray(self._data), separator=", ", prefix="Tensor(", threshold=100)
        dtype = "" if self.dtype in (np.float64, np.int64, np.bool_) else f", dtype={self.dtype}"
        graph = "" if self._node is None else ", requires_grad=True" if self.is_leaf else f", made by {self._node!r}"
        return f"Tensor({values}{dtype}{graph})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        if not self.is_leaf:
            raise TypeError(f"a tensor made by {self._node!r} cannot be copied or pickled; detach() it first")
        return _rebuild, (type(self), self._data, self.requires_grad, self.grad)

    if TYPE_CHECKING:  # Operators and NumPy's methods are attached by `autograd.numpy`.
        T: Tensor
        all: Callable[..., Tensor]
        any: Callable[..., Tensor]
        argmax: Callable[..., Tensor]
        argmin: Callable[..., Tensor]
        argsort: Callable[..., Tensor]
        astype: Callable[..., Tensor]
        clip: Callable[..., Tensor]
        copy: Callable[..., Tensor]
        cumprod: Callable[..., Tensor]
        cumsum: Callable[..., Tensor]
        diagonal: Callable[..., Tensor]
        dot: Callable[..., Tensor]
        flatten: Callable[..., Tensor]
        max: Callable[..., Tensor]
        mean: Callable[..., Tensor]
        min: Callable[..., Tensor]
        nonzero: Callable[..., tuple[Any, ...]]
        prod: Callable[..., Tensor]
        ravel: Callable[..., Tensor]
        repeat: Callable[..., Tensor]
        reshape: Callable[..., Tensor]
        round: Callable[..., Tensor]
        searchsorted: Callable[..., Any]
        squeeze: Callable[..., Tensor]
        std: Callable[..., Tensor]
        sum: Callable[..., Tensor]
        swapaxes: Callable[..., Tensor]
        take: Callable[..., Tensor]
        trace: Callable[..., Tensor]
        transpose: Callable[..., Tensor]
        var: Callable[..., Tensor]

        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def __neg__(self) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...


class HookHandle:
    """Returned by `register_hook`: `remove()` takes the hook away again; doing so twice is harmless."""

    __slots__ = ("_hooks", "_key")

    def __init__(self, hooks: dict[int, Callable[[Any], Any]], key: int) -> None:
        self._hooks = hooks
        self._key = key

    def remove(self) -> None:
        self._hooks.pop(self._key, None)


def _as_array(data: Any, dtype: Any) -> Any:
    """`data` as an array in native byte order, or a NumPy scalar if it is 0-d."""
    if isinstance(data, Tensor):
        raise TypeError("Tensor: data is a tensor already; use detach(), or a function of it")
    if isinstance(data, np.ma.MaskedArray):
        raise TypeError("Tensor: data must not be a masked array; fill it first")
    try:
        array = np.asarray(data, dtype=dtype)
    except ValueError as error:
        raise ValueError(f"Tensor: data must be an array or nested sequences of equal lengths: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Tensor: data must be real numbers, got dtype {array.dtype}")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array if array.ndim else array[()]


def wrap(data: Any, node: Node | None) -> Tensor:
    """A tensor on data that is known to be an array or a NumPy scalar, at this place in the graph."""
    tensor = Tensor.__new__(Tensor)
    tensor._data = data
    tensor._node = node
    return tensor


def _rebuild(kind: type[Tensor], data: Any, requires_grad: bool, grad: Tensor | None) -> Tensor:
    tensor = kind.__new__(kind)
    Tensor.__init__(tensor, data, requires_grad)
    tensor.grad = grad
    return tensor


def gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Sequence[Any] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `sum(<grad_outputs, outputs>)` with respect to `inputs`, leaves or not; no `grad` is touched.

    Only the part of the graph that leads to an input is swept. Raises ValueError, unless `allow_unused`, for an input
    on which no output depends; its gradient is None.
    """
    wanted = [tensor._require_node("grad") for tensor in inputs]
    seeds = _seeds("grad", outputs, [None] * len(outputs) if grad_outputs is None else grad_outputs, create_graph)
    keep = create_graph if retain_graph is None else retain_graph
    found = _owned(sweep(seeds, set(wanted), keep, wrap if create_graph else None), seeds)
    for position, node in enumerate(wanted):
        if node not in found and not allow_unused:
            raise ValueError(
                f"grad: no output depends on input {position}, {node!r}; pass allow_unused=True to get None"
            )
    return tuple(found.get(node) for node in wanted)


def _seeds(
    function: str, outputs: Sequence[Tensor], grad_outputs: Sequence[Any], create_graph: bool
) -> list[tuple[Node, Any]]:
    """The nodes where a sweep starts, each with the gradient that it starts from."""
    if len(outputs) != len(grad_outputs):
        raise ValueError(f"{function}: {len(outputs)} outputs, but {len(grad_outputs)} gradients")
    seeds = []
    for output, gradient in zip(outputs, grad_outputs, strict=True):
        if gradient is None:
            if output.size != 1:
                raise ValueError(
                    f"{function}: a tensor of shape {output.shape} is not a scalar; "
                    f"pass the gradient with respect to it, an array of that shape, or sum() it first"
                )
            gradient = np.ones(output.shape, output.dtype)[()]
        value = gradient if isinstance(gradient, Tensor) else wrap(_as_array(gradient, None), None)
        if value.shape != output.shape:
            raise ValueError(f"{function}: gradient must have shape {output.shape}, got {value.shape}")
        if value.dtype != output.dtype:
            if value.dtype.kind != "f" or not np.can_cast(value.dtype, output.dtype, "same_kind"):
                raise TypeError(f"{function}: gradient must have dtype {output.dtype}, got {value.dtype}")
            value = value.astype(output.dtype)
        seeds.append((output._require_node(function), value if create_graph else value._data))
    return seeds


def _owned(found: dict[Node, Any], seeds: Sequence[tuple[Node, Any]]) -> dict[Node, Tensor]:
    """The gradients as tensors that share memory neither with each other nor with the gradients a sweep began with."""
    seen = {id(g._data if isinstance(g, Tensor) else g) for _, g in seeds}
    tensors = {}
    for node, g in found.items():
        array, place = (g._data, g._node) if isinstance(g, Tensor) else (g, None)
        if type(array) is np.ndarray and (array.base is not None or id(array) in seen or not array.ndim):
            array = array.copy(order="K")[()]
        seen.add(id(array))
        tensors[node] = wrap(array, place)
    return tensors
