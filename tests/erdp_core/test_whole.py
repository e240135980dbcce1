"""Networks gone through as a whole against plain products and autograd, on either side of a block of rows."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erdp_core import fused, native, whole
from erdp_core.weights import Weights
from erdp_core.whole import ROWS, WholeNetworks

O, A, WIDTH = 6, 3, 32
LAYERS = [("first", "first_bias"), ("middle", "middle_bias"), ("last", "last_bias")]


@pytest.fixture(autouse=True)
def there_is_a_library() -> None:
    if native.compiler() is None or whole._library() is None:
        pytest.skip("there is no C++ compiler, or torch multiplies with another library")


@pytest.fixture(params=[1, 2], ids=["one core", "two cores"], autouse=True)
def cores(request: pytest.FixtureRequest) -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(runs: int, members: int, outputs: int = 1) -> tuple[WholeNetworks, Weights]:
    """Two hidden layers, with other tensors before and after them."""
    shapes: dict[str, tuple[int, ...]] = {"others": (7,)}
    sizes = (O + A, WIDTH, WIDTH, outputs)
    for (weight, bias), inputs, found in zip(LAYERS, sizes[:-1], sizes[1:], strict=True):
        shapes |= {weight: (members, inputs, found), bias: (members, 1, found)}
    shapes["more"] = (2, 2)
    weights = Weights(shapes, runs, "cpu")
    weights.flat.copy_(0.4 * normal(*weights.flat.shape, seed=1))
    return WholeNetworks(LAYERS, shapes, members), weights


def plain(weights: Weights, inputs: Tensor) -> Tensor:
    """[N, B, U], for inputs [R, B, I] and autograd."""
    hidden = inputs.unsqueeze(1)
    for weight, bias in LAYERS:
        hidden = hidden @ weights[weight] + weights[bias]
        hidden = hidden if weight == "last" else F.mish(hidden)
    return hidden.flatten(0, 1)


@pytest.mark.parametrize(("runs", "members", "outputs"), [(1, 1, 1), (1, 1, 4), (2, 3, 1), (3, 1, 2)])
@pytest.mark.parametrize(("states", "share"), [(1, 1), (ROWS + 3, 1), (5, 7), (3, ROWS + 1)])
def test_outputs(runs: int, members: int, outputs: int, states: int, share: int) -> None:
    networks, weights = made(runs, members, outputs)
    observations, actions = normal(runs, states, O), normal(runs, states * share, A, seed=2)
    pairs = torch.cat([observations.repeat_interleave(share, dim=1), actions], dim=2)
    found = networks.outputs(weights, observations, actions, 0, O)
    torch.testing.assert_close(found, plain(weights, pairs), rtol=1e-4, atol=1e-5)


def test_another_bias_for_the_first_layer_and_actions_before_states() -> None:
    networks, weights = made(2, 1, 3)
    observations, actions, bias = normal(2, 9, O), normal(2, 9, A, seed=2), normal(2, WIDTH, seed=3)
    found = networks.outputs(weights, observations, actions, A, 0, bias)
    weights["first_bias"].copy_(bias.view(2, 1, 1, WIDTH))
    expected = plain(weights, torch.cat([actions, observations], dim=2))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_views_that_do_not_lie_together_are_taken() -> None:
    networks, weights = made(2, 2)
    observations, actions = normal(O, 9, 2).permute(2, 1, 0), normal(9, 2, A, seed=2).transpose(0, 1)
    found = networks.outputs(weights, observations, actions, 0, O)
    expected = plain(weights, torch.cat([observations, actions], dim=2))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("runs", "members"), [(1, 1), (1, 5), (3, 2)])
@pytest.mark.parametrize("rows", [1, ROWS, 2 * ROWS + 5])
def test_regression(runs: int, members: int, rows: int) -> None:
    networks, weights = made(runs, members)
    inputs, targets = normal(runs, rows, O + A), normal(runs * members, rows, seed=2)
    gradient = Weights(weights.shapes, runs, "cpu")
    found, norm = networks.regress(weights, inputs, targets, 0.3, gradient)

    weights.require_grad(True)
    expected = plain(weights, inputs).squeeze(2)
    of_weights = torch.autograd.grad(
        0.15 * ((expected - targets) ** 2).sum(), [weights[n] for pair in LAYERS for n in pair]
    )
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)
    for name, one in zip([name for pair in LAYERS for name in pair], of_weights, strict=True):
        torch.testing.assert_close(gradient[name], one, rtol=1e-4, atol=1e-4)
    exact = torch.stack([one.flatten(1).square().sum(dim=1) for one in of_weights]).sum(dim=0).sqrt()
    torch.testing.assert_close(norm, exact, rtol=1e-5, atol=0)
    assert (gradient["others"] == 0).all()
    assert (gradient["more"] == 0).all()


@pytest.mark.parametrize(("runs", "members", "outputs"), [(1, 1, 4), (2, 3, 1), (2, 1, 2)])
@pytest.mark.parametrize("rows", [1, 2 * ROWS + 5, (whole.MOST_PARTS + 1) * ROWS + 5])
def test_gradients_at_inputs_and_weights(runs: int, members: int, outputs: int, rows: int) -> None:
    networks, weights = made(runs, members, outputs)
    inputs = normal(runs, rows, O + A).requires_grad_()
    of_outputs = normal(runs * members, rows, outputs, seed=2)
    weights.require_grad(True)
    names = [name for pair in LAYERS for name in pair]
    ways = []
    for found in (networks.differentiable(weights, inputs), plain(weights, inputs)):
        gradients = torch.autograd.grad((found * of_outputs).sum(), [inputs, *(weights[name] for name in names)])
        ways.append([found, *gradients])
    for one, other in zip(*ways, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_gradients_at_some_inputs_alone() -> None:
    networks, weights = made(2, 3)
    inputs, of_outputs = normal(2, ROWS + 5, O + A), normal(6, ROWS + 5, 1, seed=2)
    _, slopes, values = networks.forward(weights, inputs, keep_values=False)
    assert values is None
    some, none = networks.backward(weights, None, of_outputs, slopes, columns=slice(O, None))
    every, _ = networks.backward(weights, None, of_outputs, slopes)
    assert none.shape == (2, 0)
    torch.testing.assert_close(some, every[..., O:])
    parallel = inputs.clone().requires_grad_()
    (expected,) = torch.autograd.grad((plain(weights, parallel) * of_outputs).sum(), parallel)
    torch.testing.assert_close(every.view(2, 3, ROWS + 5, -1).sum(dim=1), expected, rtol=1e-4, atol=1e-4)


def test_cores_do_not_change_a_bit() -> None:
    """But where there are fewer networks than cores, which then share a network's rows."""
    networks, weights = made(1, 4)
    inputs, targets = normal(1, 300, O + A), normal(4, 300, seed=2)
    found = []
    for cores in (1, 2, 3):
        torch.set_num_threads(cores)
        gradient = Weights(weights.shapes, 1, "cpu")
        found.append([*networks.regress(weights, inputs, targets, 1.0, gradient), gradient.flat])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert torch.equal(one, other)


def test_what_does_not_suit() -> None:
    networks, weights = made(1, 2)
    assert networks.suit(weights)
    with fused.as_written():
        assert not networks.suit(weights)


def test_shapes_that_do_not_fit_are_refused_before_any_memory_is_touched() -> None:
    networks, weights = made(2, 3)
    states, actions, gradient = normal(2, 6, O), normal(2, 6, A), Weights(weights.shapes, 2, "cpu")
    inputs, targets = normal(2, 6, O + A), normal(6, 6)
    _, slopes, _ = networks.forward(weights, inputs, keep_values=False)
    for call in (
        lambda: networks.outputs(weights, states[:1], actions, 0, O),
        lambda: networks.outputs(weights, states, actions[:, :5], 0, O),
        lambda: networks.outputs(weights, normal(2, 6, O + A + 1), actions, 0, O),
        lambda: networks.forward(weights, inputs[:1], keep_values=False),
        lambda: networks.forward(weights, normal(2, 6, O), keep_values=False),
        lambda: networks.regress(weights, inputs, targets[:3], 1.0, gradient),
        lambda: networks.regress(weights, inputs, targets, 1.0, Weights(weights.shapes, 1, "cpu")),
        lambda: networks.backward(weights, None, normal(3, 6, 1), slopes),
        lambda: networks.backward(weights, None, normal(6, 7, 1), slopes),
        lambda: networks.backward(weights, inputs[:1], normal(6, 6, 1), slopes),
    ):
        with pytest.raises(ValueError, match="2 runs of 3 networks from 9 inputs to 1 outputs do not go with"):
            call()


def test_more_layers_than_there_is_room_for_do_not_suit() -> None:
    def deep(hidden: int) -> bool:
        layers = [(f"weight_{index}", f"bias_{index}") for index in range(hidden + 1)]
        shapes = {name: (4, 4) if "weight" in name else (1, 4) for pair in layers for name in pair}
        return WholeNetworks(layers, shapes, 1).suit(Weights(shapes, 1, "cpu"))

    assert deep(16)
    assert not deep(17)


def test_rows_of_a_block_are_the_librarys() -> None:
    library = whole._library()
    assert library is not None
    assert library.whole_rows() == ROWS
