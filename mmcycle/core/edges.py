"""Where the edges of a sample are, as a frozen network without weights: name it in `loss.task_network`.

    loss: {consistency: nce, nce: 0.1, task: 5, task_network: "mmcycle.core.edges:edges"}

holds every contour of real_a in fake_b, whatever becomes of light and colour: drawings keep to what they draw.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BELL = (0.0545, 0.2442, 0.4026, 0.2442, 0.0545) # a Gaussian, sigma 1
FAINT = 0.1                                     # mean change between neighbours below which contrast counts as well
STEEP, EDGE = 2.0, 2.0                          # an edge is twice as steep as the mean; how sure one is of it


class Edges(nn.Module):
    """(B, C, H, W) -> scores (B, 2, H, W) of "edge" and "none".

    The strength of the gradient (mean over channels, slightly smoothed), beside its own mean over the sample: contrast
    hardly counts where there is any, but a blank sheet has no edges.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bell", torch.tensor(BELL), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            y = F.pad(x.float().mean(1, keepdim=True), (3, 3, 3, 3), mode="replicate")
            y = F.conv2d(F.conv2d(y, self.bell[None, None, :, None]), self.bell[None, None, None])
            across, down = (y[..., 1:-1, 2:] - y[..., 1:-1, :-2]) / 2, (y[..., 2:, 1:-1] - y[..., :-2, 1:-1]) / 2
            strength = (across.square() + down.square() + 1e-6).sqrt()
            score = STEEP * (strength / (strength.mean((-2, -1), keepdim=True) + FAINT) - EDGE) / 2
        return torch.cat([score, -score], dim=1)


def edges() -> Edges:
    """What `loss.task_network` calls."""
    return Edges()
