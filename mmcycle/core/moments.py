"""What the parts of one recording share, so that a network that looks at the whole of it treats them alike."""
import torch
from torch import Tensor
from torch.nn import functional as F


class SharedMoments:
    """Mean and variance of one layer, taken jointly over the first batch it sees and used for all that follow.

    share  in [0, 1], how far the next batch moves them towards its own; 0 again after it
    """

    def __init__(self) -> None:
        self.known: tuple[Tensor, Tensor] | None = None     # mean and variance, (D,)
        self.share = 1.0

    def of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D, h, w) -> the mean and variance (D,) to use for it."""
        if self.share > 0:
            levels = x.float()
            mean = levels.mean((0, 2, 3))
            variance = (levels - mean[:, None, None]).square().mean((0, 2, 3))      # three times as fast as var_mean
            old = self.known if self.known is not None and self.share < 1 else (mean, variance)
            self.known = torch.lerp(old[0], mean, self.share), torch.lerp(old[1], variance, self.share)
            self.share = 0.0
        return self.known

    def normalise(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> the same, each channel brought to mean 0 and variance 1."""
        return F.batch_norm(x.float(), *self.of(x), training=False, eps=1e-5).to(x.dtype)
