"""The diagrams and plots of the lessons.

Every figure is drawn from data or weights that the caller gives, has a title,
labelled axes and a text alternative, and uses colours that people with a
colour vision deficiency can tell apart. The names of those that move begin with
``moving``: they have controls where a kernel runs, and are still elsewhere.
"""

from firstcnn.figures.convolution import convolution_step, feature_maps, pixel_table
from firstcnn.figures.dataset import (
    digit_grid,
    intensities,
    label_shares,
    mean_digits,
    split_bar,
)
from firstcnn.figures.display import show
from firstcnn.figures.evaluation import (
    confusion_matrix,
    mistakes,
    per_digit,
    probabilities,
    reliability,
)
from firstcnn.figures.experiments import comparison
from firstcnn.figures.maps import moving_maps
from firstcnn.figures.network import maps_by_layer, network, relu
from firstcnn.figures.strokes import ladder, shrunk, steps
from firstcnn.figures.sweep import moving_curves
from firstcnn.figures.training import curves, descent, learning_curves, loss_panels
from firstcnn.figures.windows import moving_convolution, moving_pooling

__all__ = [
    "comparison",
    "confusion_matrix",
    "convolution_step",
    "curves",
    "descent",
    "digit_grid",
    "feature_maps",
    "intensities",
    "label_shares",
    "ladder",
    "learning_curves",
    "loss_panels",
    "maps_by_layer",
    "mean_digits",
    "mistakes",
    "moving_convolution",
    "moving_curves",
    "moving_maps",
    "moving_pooling",
    "network",
    "per_digit",
    "pixel_table",
    "probabilities",
    "reliability",
    "relu",
    "show",
    "shrunk",
    "split_bar",
    "steps",
]
