"""Fits from files."""

from __future__ import annotations

import os
from contextlib import suppress

from gdcore.results.fit import Fit
from gdcore.results.fits import Fits


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Fit
        The same bits, `Fits` if it was many; a warm start continues as if never saved.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a gdcore fit, is truncated, or has a version that this gdcore does not know.
    """
    from gdcore.results import archive

    with suppress(archive.OtherFormError), archive.read(path, archive.FITS) as (meta, arrays):
        return Fits.from_file(meta, arrays)
    with archive.read(path, archive.FIT) as (meta, arrays):
        return Fit.from_file(meta, arrays)
