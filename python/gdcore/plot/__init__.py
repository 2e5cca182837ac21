"""Pictures of a fit, in the manner of scikit-learn's displays.

=====================  ============================================================
`LossCurveDisplay`     the loss over the epochs, and how training ended
`FittedLineDisplay`    the line through the points, train and test
`ResidualsDisplay`     what the line leaves over
`LossContourDisplay`   the loss over its two parameters, and the way down
`animate_line`         the line closing in on the points
`save_animation`       that, as a ``.gif``, ``.mp4`` or ``.html`` file
=====================  ============================================================

A display draws into ``ax`` when it is given one, else into a figure of its own, and keeps
them as ``ax_`` and ``figure_``. No window opens and pyplot is not involved: save the picture
with ``display.figure_.savefig("fit.png")``, let a notebook show it as the last line of a
cell, or pass ``ax=plt.gca()`` and call ``plt.show()``.

Matplotlib is imported by the first plot: ``pip install 'gdcore[plot]'``.
"""

from gdcore.plot.animation import animate_line, save_animation
from gdcore.plot.contour import LossContourDisplay
from gdcore.plot.line import FittedLineDisplay
from gdcore.plot.loss import LossCurveDisplay
from gdcore.plot.residuals import ResidualsDisplay

__all__ = [
    "FittedLineDisplay",
    "LossContourDisplay",
    "LossCurveDisplay",
    "ResidualsDisplay",
    "animate_line",
    "save_animation",
]
