"""The classes of results, where pickles of 0.1.0 look for them."""

from gdcore.results.fit import Fit as Fit
from gdcore.results.fit import History as History
from gdcore.results.fit import Start as Start
from gdcore.results.fits import Fits as Fits
