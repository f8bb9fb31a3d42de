"""The edges of a sample: found where they are, whatever the light, and kept by a generator that is asked to."""
import torch

from mmcycle.config import from_dict
from mmcycle.core.edges import Edges, edges
from mmcycle.core.losses import task_consistency
from mmcycle.train.trainer import task_network


def step_at(column: int, dark: float = -1.0, light: float = 1.0) -> torch.Tensor:
    """(1, 3, 16, 32), dark to the left of a column."""
    x = torch.full((1, 3, 16, 32), light)
    x[..., :column] = dark
    return x


def test_an_edge_is_found_where_it_is_and_nowhere_else() -> None:
    scores = edges()(step_at(16))
    assert scores.shape == (1, 2, 16, 32)
    torch.testing.assert_close(scores[:, 0], -scores[:, 1])
    assert (scores[0, 0] > 0).nonzero()[:, 1].unique().tolist() == [15, 16]


def test_inversion_changes_nothing_and_contrast_little_but_a_moved_edge_and_a_blank_sheet_cost() -> None:
    network, before = Edges(), Edges()(step_at(16))
    cost = {name: task_consistency(before, network(x)).item() for name, x in {
        "same": step_at(16), "inverted": -step_at(16), "softer": step_at(16, -0.6, 0.6), "moved": step_at(8),
        "blank": step_at(0), "faint": step_at(16, 0.96, 1.0),
    }.items()}
    assert cost["same"] == 0 and abs(cost["inverted"]) < 1e-6
    assert cost["softer"] < 0.1 * cost["moved"] and cost["softer"] < 0.1 * cost["blank"] < cost["moved"]
    assert cost["faint"] > 0.5 * cost["blank"]


def test_it_has_no_weights_takes_one_channel_and_odd_sizes_and_gives_gradients_even_of_a_blank_sheet() -> None:
    x = torch.ones(2, 1, 9, 13, requires_grad=True)
    found = Edges()(x)
    assert found.shape == (2, 2, 9, 13) and not Edges().state_dict() and not [*Edges().parameters()]
    found.square().sum().backward()
    assert x.grad.isfinite().all()


def test_a_config_names_it() -> None:
    image = {"modality": "image", "size": 16}
    config = from_dict({"name": "drawn", "a": {"name": "a", **image}, "b": {"name": "b", **image},
                        "loss": {"task": 2, "task_network": "mmcycle.core.edges:edges"}})
    assert isinstance(task_network(config), Edges)
