"""The classes of states, where pickles of 0.1.0 look for them."""

from gdcore.results.state import FitState as FitState
from gdcore.results.state import ManyState as ManyState
