"""The diagrams and plots of the lessons.

Every figure is drawn from data or weights that the caller gives, has a title,
labelled axes and a text alternative, and uses colours that people with a
colour vision deficiency can tell apart.
"""

from firstcnn.figures.convolution import convolution_step, feature_maps, pixel_table
from firstcnn.figures.display import show

__all__ = ["convolution_step", "feature_maps", "pixel_table", "show"]
