"""Round to nearest: every weight gets the code that is nearest, whatever the inputs are."""

# O outputs, I inputs

from torch import Tensor

from congling.quant.config import GridConfig
from congling.quant.grid import Grid, grid_of


def round_to_nearest(weight: Tensor, config: GridConfig) -> tuple[Tensor, Grid]:
    """Codes (O, I) uint8 and the min-max grid of a matrix (O, I).

    Raises:
        UserError: as :func:`grid_of`.
    """
    grid = grid_of(weight, config.bits, config.group_size, config.sym)
    return grid.code(weight), grid
