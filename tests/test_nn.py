"""`autograd.nn`: the tree of modules, its state, the layers, initial values, and small networks that learn."""

import copy
import io
import math
import pickle

import numpy as np
import pytest

from autograd import Tensor, nn, no_grad, optim
from autograd import functional as F
from autograd.checking import check_grads
from autograd.nn import Buffer, Module, Parameter


class Block(Module):
    """Two parameters, a buffer, a child, and things that are none of these."""

    def __init__(self):
        self.scale = Parameter(np.ones(2, np.float32))
        self.linear = nn.Linear(2, 2, rng=0)
        self.mean = Buffer(np.zeros(2, np.float32))
        self.shift = Parameter(np.zeros(2))
        self.absent = None
        self.number = 3
        self.cache = Tensor(np.ones(2))

    def forward(self, x, offset=0):
        return self.linear(x) * self.scale + self.shift + offset


def network(rng, dtype=np.float32):
    rng = np.random.default_rng(rng)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, dtype=dtype, rng=rng),
        nn.BatchNorm2d(4, dtype=dtype),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, dtype=dtype, rng=rng),
        nn.GELU(),
        nn.AvgPool2d(2, stride=1),
        nn.Flatten(),
        nn.Dropout(0.1, rng=rng),
        nn.Linear(24, 3, dtype=dtype, rng=rng),
    )


# The tree


def test_attributes_are_found_by_their_type():
    block = Block()
    assert [name for name, _ in block.named_parameters()] == ["scale", "shift", "linear.weight", "linear.bias"]
    assert [name for name, _ in block.named_buffers()] == ["mean"]
    assert [name for name, _ in block.named_modules()] == ["", "linear"]
    assert [name for name, _ in block.named_children()] == ["linear"]
    assert list(block.children()) == [block.linear]
    assert list(block.modules()) == [block, block.linear]
    assert list(map(id, block.parameters())) == list(
        map(id, [block.scale, block.shift, block.linear.weight, block.linear.bias])
    )
    assert [b is block.mean for b in block.buffers()] == [True]
    assert all(isinstance(p, Parameter) and p.requires_grad for p in block.parameters())
    assert not block.mean.requires_grad


def test_names_are_paths():
    tree = nn.Sequential({"features": nn.Sequential(nn.Linear(1, 1), Block()), "head": nn.Linear(2, 1, bias=False)})
    names = [name for name, _ in tree.named_parameters()]
    assert names == [
        "features.0.weight",
        "features.0.bias",
        "features.1.scale",
        "features.1.shift",
        "features.1.linear.weight",
        "features.1.linear.bias",
        "head.weight",
    ]
    assert [name for name, _ in tree.named_modules("net")][:3] == ["net", "net.features", "net.features.0"]


def test_attributes_come_and_go():
    block = Block()
    del block.linear
    block.shift = None
    assert [name for name, _ in block.named_parameters()] == ["scale"]
    block.scale = Parameter(np.ones(5))
    assert block.scale.shape == (5,)


@pytest.mark.parametrize(("name", "kind"), [("scale", "Parameter"), ("mean", "Buffer")])
def test_a_parameter_is_not_silently_replaced_by_a_plain_tensor(name, kind):
    block = Block()
    with pytest.raises(TypeError, match=rf"Block.{name}: a {kind} cannot be replaced by a Tensor"):
        setattr(block, name, Tensor(np.ones(2)))


def test_what_is_shared_is_named_once():
    linear = nn.Linear(2, 2)
    tied = nn.Sequential(linear, nn.ReLU(), linear)
    assert [name for name, _ in tied.named_parameters()] == ["0.weight", "0.bias"]
    assert [name for name, _ in tied.named_modules()] == ["", "0", "1"]
    assert list(tied.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_parameter():
    array = np.ones(3, np.float32)
    p = Parameter(array)
    assert p.data is array
    assert Parameter(Tensor(array)).data is array
    assert type(p * 1) is Tensor
    assert not Parameter(array, requires_grad=False).requires_grad
    with no_grad():
        p -= 0.5
    assert isinstance(p, Parameter)
    assert array.tolist() == [0.5, 0.5, 0.5]
    with pytest.raises(TypeError, match="only floating tensors"):
        Parameter(np.arange(3))


def test_train_and_eval_reach_everything():
    net = nn.Sequential(Block(), nn.Sequential(nn.Dropout()))
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())
    with pytest.raises(TypeError, match=r"Module.train: mode must be a bool, got 1"):
        net.train(1)


def test_zero_grad_and_requires_grad():
    block = Block()
    block(np.ones((1, 2), np.float32)).sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())
    assert block.requires_grad_(False) is block
    assert not block(np.ones((1, 2), np.float32)).requires_grad
    block.requires_grad_()
    assert all(p.requires_grad for p in block.parameters())


def test_apply_goes_from_the_leaves_up():
    net = nn.Sequential(Block(), nn.ReLU())
    order = []
    assert net.apply(order.append) is net
    assert order == [net[0].linear, net[0], net[1], net]


def test_repr_is_a_tree():
    net = nn.Sequential({"conv": nn.Conv2d(1, 2, 3, stride=2, bias=False), "body": nn.Sequential(nn.ReLU())})
    assert repr(net) == (
        "Sequential(\n"
        "  (conv): Conv2d(1, 2, kernel_size=(3, 3), stride=2, bias=False)\n"
        "  (body): Sequential(\n"
        "    (0): ReLU()\n"
        "  )\n"
        ")"
    )
    assert repr(nn.Sequential()) == "Sequential()"


def test_forward_and_its_keywords():
    with pytest.raises(NotImplementedError, match="Module: forward is not defined"):
        Module()(1)
    x = np.ones((1, 2), np.float32)
    assert (Block()(x, offset=1) - Block()(x)).tolist() == [[1, 1]]


# Hooks


def test_forward_hooks_see_and_may_replace_the_output():
    layer = nn.ReLU()
    seen = []
    first = layer.register_forward_hook(lambda module, args, output: seen.append((module, args, output)))
    x = Tensor(np.array([-1.0, 2.0]))
    y = layer(x)
    assert seen == [(layer, (x,), y)]
    second = layer.register_forward_hook(lambda module, args, output: output * 10)
    assert layer(x).tolist() == [0, 20]
    assert len(seen) == 2
    first.remove()
    first.remove()
    second.remove()
    assert layer(x).tolist() == [0, 2]
    assert len(seen) == 2
    with pytest.raises(TypeError, match="register_forward_hook: hook must be callable, got 3"):
        layer.register_forward_hook(3)


def test_a_hook_may_remove_itself():
    layer, calls = nn.Identity(), []

    def once(module, args, output):
        calls.append(output)
        handle.remove()

    handle = layer.register_forward_hook(once)
    layer(1)
    layer(2)
    assert calls == [1]
    assert not nn.Identity()._forward_hooks


# The state


def test_state_dict_is_a_copy_that_loads_in_place(rng):
    block, other = Block(), Block()
    for tensor in [*block.parameters(), *block.buffers()]:
        with no_grad():
            tensor[...] = rng.standard_normal(tensor.shape)
    state = block.state_dict()
    assert list(state) == ["scale", "shift", "mean", "linear.weight", "linear.bias"]
    assert all(type(array) is np.ndarray for array in state.values())
    memory = [p.data for p in other.parameters()]
    assert other.load_state_dict(state) == ([], [])
    assert all(p.data is m for p, m in zip(other.parameters(), memory, strict=True))
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    with no_grad():
        block.scale += 1
    assert (state["scale"] == other.scale.data).all()


def test_state_goes_through_a_file(rng):
    net = network(1)
    net(rng.standard_normal((4, 1, 10, 10), dtype=np.float32))
    file = io.BytesIO()
    np.savez(file, **net.state_dict())
    file.seek(0)
    other = network(2)
    with np.load(file) as state:
        other.load_state_dict(state)
    x = rng.standard_normal((2, 1, 10, 10), dtype=np.float32)
    np.testing.assert_array_equal(net.eval()(x).data, other.eval()(x).data)
    assert int(other[1].num_batches_tracked) == 1


def test_load_state_dict_names_everything_that_is_wrong_and_changes_nothing():
    block = Block()
    state = block.state_dict()
    del state["scale"]
    state["extra"] = np.ones(1)
    state["mean"] = np.ones(3, np.float32)
    state["shift"] = np.ones(2, np.float32)
    state["linear.bias"] = np.ones(2, np.float32)
    before = block.linear.bias.tolist()
    with pytest.raises(ValueError, match="load_state_dict: for Block: missing: scale; unexpected: extra; ") as error:
        block.load_state_dict(state)
    assert "mean must have shape (2,) and dtype float32, got (3,), float32" in str(error.value)
    assert "shift must have shape (2,) and dtype float64, got (2,), float32" in str(error.value)
    assert block.linear.bias.tolist() == before
    with pytest.raises(TypeError, match=r"load_state_dict: state_dict must be a mapping of names to arrays, got \[1\]"):
        block.load_state_dict([1])


def test_load_state_dict_may_be_lenient():
    block = Block()
    result = block.load_state_dict({"scale": Tensor(np.float32([5, 6])), "extra": np.ones(1)}, strict=False)
    assert result.missing_keys == ["shift", "mean", "linear.weight", "linear.bias"]
    assert result.unexpected_keys == ["extra"]
    assert block.scale.tolist() == [5, 6]
    with pytest.raises(ValueError, match="scale must have shape"):
        block.load_state_dict({"scale": np.ones(3, np.float32)}, strict=False)


def test_conversion_keeps_the_objects(rng):
    net = network(0)
    parameters = list(net.parameters())
    net(rng.standard_normal((2, 1, 10, 10), dtype=np.float32)).sum().backward()
    assert net.double() is net
    assert [id(p) for p in net.parameters()] == [id(p) for p in parameters]
    assert {p.dtype for p in parameters} == {p.grad.dtype for p in parameters} == {np.dtype(np.float64)}
    assert net[1].running_mean.dtype == np.float64
    assert net[1].num_batches_tracked.dtype == np.int64
    assert net(rng.standard_normal((2, 1, 10, 10))).dtype == np.float64
    assert net.float()[0].weight.dtype == np.float32
    with pytest.raises(TypeError, match=r"Module.to: dtype must be floating, got int64"):
        net.to(np.int64)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_share_nothing(copied, rng):
    net = network(0).eval()
    twin = copied(net)
    x = rng.standard_normal((2, 1, 10, 10), dtype=np.float32)
    before = net(x).data
    np.testing.assert_array_equal(twin(x).data, before)
    with no_grad():
        for p in twin.parameters():
            p += 1
    np.testing.assert_array_equal(net(x).data, before)


# Containers


def test_sequential_is_indexed_and_iterated():
    layers = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)]
    net = nn.Sequential(*layers)
    assert len(net) == 3
    assert list(net) == layers
    assert net[0] is layers[0]
    assert net[-1] is layers[2]
    part = net[1:]
    assert type(part) is nn.Sequential
    assert list(part) == layers[1:]
    named = nn.Sequential({"first": layers[0], "act": layers[1]})
    assert named.first is named[0] is layers[0]
    named.append(layers[2])
    x = np.ones((4, 2), np.float32)
    np.testing.assert_array_equal(named(x).data, net(x).data)
    assert nn.Sequential()(x) is x
    with pytest.raises(IndexError, match="Sequential: index 3 is out of range for 3 modules"):
        net[3]


def test_module_list():
    class Net(Module):
        def __init__(self):
            self.layers = nn.ModuleList([nn.Linear(2, 2)])
            self.layers.append(nn.Linear(2, 2, bias=False))

    net = Net()
    assert [name for name, _ in net.named_parameters()] == ["layers.0.weight", "layers.0.bias", "layers.1.weight"]
    assert len(net.layers[:1]) == 1
    with pytest.raises(NotImplementedError, match="ModuleList: forward is not defined"):
        net.layers(1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Sequential(nn.ReLU(), F.relu), TypeError, "Sequential: '1' must be a Module, got <function relu"),
        (lambda: nn.Sequential({"a.b": nn.ReLU()}), ValueError, "Sequential: a name must be .* got 'a.b'"),
        (lambda: nn.Sequential({"forward": nn.ReLU()}), ValueError, "Sequential: a name must be .* got 'forward'"),
        (lambda: nn.Conv2d(3, 4, 0), ValueError, "Conv2d: kernel_size must be at least 1, got 0"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), ValueError, "Conv2d: kernel_size must be an integer or a pair, got"),
        (lambda: nn.Conv2d(3, 4, 1.5), TypeError, "Conv2d: kernel_size must be an integer, got 1.5"),
        (lambda: nn.Conv2d(-3, 4, 1), ValueError, "Conv2d: in_channels must be at least 0, got -3"),
        (lambda: nn.Conv2d(4, 6, 1, groups=3), ValueError, "Conv2d: groups must divide .* got 3 for 4 and 6"),
        (lambda: nn.Conv2d(4, 6, 1, groups=0), ValueError, "Conv2d: groups must be at least 1, got 0"),
        (lambda: nn.Conv2d(4, 6, 1, dtype=int), TypeError, "Conv2d: dtype must be floating, got int64"),
        (lambda: nn.Conv2d(4, 6, 1, bias=0), TypeError, "Conv2d: bias must be a bool, got 0"),
        (lambda: nn.Linear("3", 4), TypeError, "Linear: in_features must be an integer, got '3'"),
        (lambda: nn.Linear(3, 4, rng="x"), TypeError, "Linear: rng must be a numpy Generator, a seed or None, got 'x'"),
        (lambda: nn.Linear(3, 4)(np.ones((2, 4))), ValueError, r"linear: x must have shape \(..., 3\), got \(2, 4\)"),
        (lambda: nn.BatchNorm2d(True), TypeError, "BatchNorm2d: num_features must be an integer, got True"),
        (
            lambda: nn.BatchNorm2d(3)(np.ones((2, 4, 5, 5))),
            ValueError,
            r"BatchNorm2d: x must have shape \(N, 3, H, W\)",
        ),
        (lambda: nn.BatchNorm2d(2, momentum=2), ValueError, "BatchNorm2d: momentum must be between 0 and 1, got 2"),
        (lambda: nn.BatchNorm2d(2, dtype="no"), TypeError, "BatchNorm2d: dtype must be floating, got 'no'"),
        (lambda: nn.GELU("exact"), ValueError, "GELU: approximate must be 'none' or 'tanh', got 'exact'"),
        (lambda: nn.Flatten(None), TypeError, "Flatten: start_dim must be an integer, got None"),
        (
            lambda: nn.Linear(2**64, 1),
            ValueError,
            "Linear: in_features must fit into 64 bits, got 18446744073709551616",
        ),
        (lambda: nn.ModuleList(3), TypeError, "ModuleList: modules must be an iterable of modules, got 3"),
        (lambda: nn.Dropout(2), ValueError, "Dropout: p must be between 0 and 1, got 2"),
        (lambda: nn.Dropout(rng=-1), ValueError, "Dropout: rng must be a numpy Generator, a seed or None, got -1"),
        (lambda: nn.MaxPool2d(0), ValueError, "MaxPool2d: kernel_size must be at least 1, got 0"),
        (lambda: nn.init.zeros_(np.ones(2)), TypeError, "zeros_: tensor must be a Tensor, got array"),
        (lambda: nn.init.kaiming_normal_(Tensor(np.ones(2))), ValueError, "kaiming_normal_: tensor must have at least"),
        (lambda: nn.init.kaiming_uniform_(Tensor(np.ones((2, 2))), mode="in"), ValueError, "mode must be .* got 'in'"),
        (lambda: nn.init.calculate_gain("relu7"), ValueError, "calculate_gain: nonlinearity must be .* got 'relu7'"),
        (lambda: nn.init.uniform_(Tensor(np.ones(2)), 1, 0), ValueError, "uniform_: a must not be .* got 1 and 0"),
        (
            lambda: nn.init.normal_(Tensor(np.ones(2)), 0, -1),
            ValueError,
            "normal_: std must be finite and at least 0, got -1",
        ),
    ],
)
def test_errors_name_function_argument_and_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Layers


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stride": 2, "padding": 1, "bias": False},
        {"padding": "same", "dilation": 2, "groups": 2},
        {"padding": 1, "padding_mode": "reflect"},
    ],
)
def test_conv2d_is_the_function_of_its_parameters(settings, rng):
    layer = nn.Conv2d(2, 4, (3, 2), rng=0, **settings)
    x = rng.standard_normal((2, 2, 6, 7), dtype=np.float32)
    settings = {name: value for name, value in settings.items() if name != "bias"}
    assert layer.weight.shape == (4, 2 // settings.get("groups", 1), 3, 2)
    expected = F.conv2d(x, layer.weight.data, None if layer.bias is None else layer.bias.data, **settings)
    np.testing.assert_array_equal(layer(x).data, expected)


def test_layers_without_parameters_are_functions(rng):
    x = rng.standard_normal((2, 3, 6, 6))
    for layer, function in [
        (nn.MaxPool2d(2), lambda x: F.max_pool2d(x, 2)),
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
        (nn.MaxPool2d(2, 1, dilation=2, ties="split"), lambda x: F.max_pool2d(x, 2, 1, dilation=2, ties="split")),
        (nn.AvgPool2d((2, 3)), lambda x: F.avg_pool2d(x, (2, 3))),
        (nn.AvgPool2d(3, 2, 1, True, False), lambda x: F.avg_pool2d(x, 3, 2, 1, True, False)),
        (nn.AvgPool2d(3, divisor_override=2), lambda x: F.avg_pool2d(x, 3, divisor_override=2)),
        (nn.Flatten(), lambda x: F.flatten(x, 1)),
        (nn.Flatten(0, 1), lambda x: F.flatten(x, 0, 1)),
        (nn.Identity(), lambda x: x),
        (nn.ReLU(), F.relu),
        (nn.LeakyReLU(0.3), lambda x: F.leaky_relu(x, 0.3)),
        (nn.ELU(2.0), lambda x: F.elu(x, 2.0)),
        (nn.Tanh(), F.tanh),
        (nn.Sigmoid(), F.sigmoid),
        (nn.SiLU(), F.silu),
        (nn.GELU(), F.gelu),
        (nn.GELU("tanh"), lambda x: F.gelu(x, "tanh")),
        (nn.Softplus(2.0), lambda x: F.softplus(x, 2.0)),
    ]:
        assert not list(layer.parameters())
        np.testing.assert_array_equal(layer(Tensor(x)).data, function(x), err_msg=repr(layer))
    values, indices = nn.MaxPool2d(2, return_indices=True)(x)
    np.testing.assert_array_equal(values.reshape(2, 3, -1)[0, 0, 0], x.reshape(2, 3, -1)[0, 0, indices[0, 0, 0, 0]])


def test_no_layer_has_a_backward():
    layers = [value for value in vars(nn).values() if isinstance(value, type) and issubclass(value, Module)]
    assert len(layers) == 19
    assert not any("backward" in name for layer in layers for name in dir(layer))


def test_dropout_only_while_training():
    layer = nn.Dropout(0.5, rng=0)
    x = Tensor(np.ones(1000, np.float32))
    first, second = layer(x).data, layer(x).data
    assert set(first.tolist()) == {0, 2}
    assert (first != second).any()
    np.testing.assert_array_equal(nn.Dropout(0.5, rng=0)(x).data, first)
    assert layer.eval()(x) is x


def test_batch_norm_follows_the_batches(rng):
    layer = nn.BatchNorm2d(3, dtype=np.float64)
    batches = rng.normal(2, 3, (3, 4, 3, 5, 5))
    mean, var = np.zeros(3), np.ones(3)
    for x in batches:
        y = layer(x)
        np.testing.assert_allclose(y.data.mean((0, 2, 3)), 0, atol=1e-14)
        np.testing.assert_allclose(y.data.var((0, 2, 3)), 1, rtol=1e-5)  # eps is 1e-5 of a variance near 9
        mean = 0.9 * mean + 0.1 * x.mean((0, 2, 3))
        var = 0.9 * var + 0.1 * x.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-13)
    np.testing.assert_allclose(layer.running_var.data, var, rtol=1e-13)
    assert int(layer.num_batches_tracked) == 3
    column = (slice(None), None, None)
    expected = (batches[0] - mean[column]) / np.sqrt(var[column] + 1e-5)
    np.testing.assert_allclose(layer.eval()(batches[0]).data, expected, rtol=1e-11, atol=1e-12)
    assert int(layer.num_batches_tracked) == 3


def test_batch_norm_may_average_over_all_batches_or_track_none(rng):
    batches = rng.normal(2, 3, (3, 4, 2, 5, 5))
    average = nn.BatchNorm2d(2, momentum=None, dtype=np.float64)
    for x in batches:
        average(x)
    np.testing.assert_allclose(average.running_mean.data, batches.mean((0, 1, 3, 4)), rtol=1e-13)
    bare = nn.BatchNorm2d(2, affine=False, track_running_stats=False)
    assert not bare.state_dict()
    np.testing.assert_array_equal(bare(batches[0]), bare.eval()(batches[0]))


def test_a_refused_batch_is_not_counted():
    layer = nn.BatchNorm2d(2)
    with pytest.raises(ValueError, match="at least two values"):
        layer(np.ones((1, 2, 1, 1), np.float32))
    assert int(layer.num_batches_tracked) == 0
    assert layer.running_mean.tolist() == [0, 0]


def test_gradients_of_a_whole_network(rng):
    net = network(0, np.float64).eval()
    parameters = list(net.parameters())
    x = rng.standard_normal((2, 1, 10, 10))

    def loss(x, *values):
        twin = network(0, np.float64).eval()
        slots = [(m, n) for m in twin.modules() for n, v in vars(m).items() if isinstance(v, Parameter)]
        for (module, name), value in zip(slots, values, strict=True):
            object.__setattr__(module, name, value)
        return F.cross_entropy(twin(x), [0, 2])

    check_grads(loss, (x, *[p.data for p in parameters]))


# Initial values


def test_layers_start_as_documented_and_reproducibly():
    layer = nn.Conv2d(6, 50, 5, groups=2, rng=3)
    bound = 1 / math.sqrt(3 * 25)
    for p in (layer.weight, layer.bias):
        assert p.dtype == np.float32
        assert np.abs(p.data).max() <= bound
    # Five standard deviations: the variance of n uniform numbers varies by about sqrt(0.8 / n) of itself.
    n = layer.weight.size
    assert layer.weight.data.var() == pytest.approx(bound**2 / 3, rel=5 * math.sqrt(0.8 / n))
    twin = nn.Conv2d(6, 50, 5, groups=2, dtype=np.float64, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(layer.weight.data, twin.weight.data.astype(np.float32))
    assert (twin.weight.data != layer.weight.data).any()
    assert (nn.Conv2d(6, 50, 5, groups=2).weight.data != nn.Conv2d(6, 50, 5, groups=2).weight.data).any()
    assert nn.Linear(0, 2, rng=0).bias.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("fill", "variance"),
    [
        (lambda t: nn.init.uniform_(t, -1, 3, rng=1), 16 / 12),
        (lambda t: nn.init.normal_(t, 5, 2, rng=1), 4),
        (lambda t: nn.init.xavier_uniform_(t, 2, rng=1), 4 * 2 / (20 * 9 + 100 * 9)),
        (lambda t: nn.init.xavier_normal_(t, rng=1), 2 / (20 * 9 + 100 * 9)),
        (lambda t: nn.init.kaiming_uniform_(t, nonlinearity="relu", rng=1), 2 / (20 * 9)),
        (lambda t: nn.init.kaiming_normal_(t, math.sqrt(5), rng=1), 2 / 6 / (20 * 9)),
        (lambda t: nn.init.kaiming_normal_(t, mode="fan_out", nonlinearity="linear", rng=1), 1 / (100 * 9)),
        (lambda t: nn.init.zeros_(t), 0),
        (lambda t: nn.init.ones_(t), 0),
    ],
)
def test_initialisers_have_the_variance_they_cite(fill, variance):
    tensor = Parameter(np.empty((100, 20, 3, 3)))
    memory = tensor.data
    assert fill(tensor) is tensor
    assert tensor.data is memory
    # Five standard deviations of the variance of 18,000 normal numbers.
    assert memory.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / memory.size))


def test_gains():
    assert nn.init.calculate_gain("relu") == math.sqrt(2)
    assert nn.init.calculate_gain("leaky_relu", 1) == 1
    assert nn.init.calculate_gain("leaky_relu") == math.sqrt(2 / 1.0001)
    assert nn.init.calculate_gain("tanh") == 5 / 3


# Learning


def trained(seed):
    """A few steps on random images: the network, and the loss at each."""
    rng = np.random.default_rng(seed)
    net = network(rng)
    x = rng.standard_normal((12, 1, 10, 10), dtype=np.float32)
    labels = rng.integers(0, 3, 12)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    accuracy = float((np.argmax(net.eval()(x).data, axis=1) == labels).mean())
    return net, losses, accuracy


def test_a_small_network_learns_random_images_by_heart():
    net, losses, accuracy = trained(0)
    assert losses[0] == pytest.approx(math.log(3), rel=0.5)  # a guess among three classes
    assert losses[-1] < 0.05
    assert accuracy == 1
    assert {p.dtype for p in net.parameters()} == {np.dtype(np.float32)}


def test_training_is_the_same_to_the_bit_for_one_seed():
    (first, losses, _), (second, again, _) = trained(5), trained(5)
    assert losses == again
    for name, array in first.state_dict().items():
        np.testing.assert_array_equal(array, second.state_dict()[name])
    assert trained(6)[1] != losses
