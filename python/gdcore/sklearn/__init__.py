"""Estimators for scikit-learn: one linear model, or one for each group of rows.

`GDRegressor` is `gdcore.fit` and `GroupedGDRegressor` is `gdcore.fit_groups` behind scikit-learn's
interface: pipelines, searches, cross-validation, metadata routing, callbacks and clones work as
with any other regressor. They need scikit-learn 1.9 or newer: ``pip install 'gdcore[sklearn]'``.

Examples
--------
>>> from sklearn.model_selection import GridSearchCV
>>> from gdcore.sklearn import GDRegressor
>>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
>>> search = GridSearchCV(GDRegressor(), {"weight_decay": [0.0, 1.0]}, cv=2).fit(X, y)
>>> search.best_params_, search.best_estimator_.coef_.round(3)
({'weight_decay': 0.0}, array([2.]))
"""

from __future__ import annotations

try:
    import sklearn.callback  # noqa: F401  (the newest part that is needed)
except ImportError as error:
    raise ImportError(
        "gdcore.sklearn needs scikit-learn 1.9 or newer; run: pip install 'gdcore[sklearn]'."
    ) from error

from gdcore.sklearn.grouped import GroupedGDRegressor
from gdcore.sklearn.parameters import FitConvergenceWarning
from gdcore.sklearn.regressor import GDRegressor

__all__ = ["FitConvergenceWarning", "GDRegressor", "GroupedGDRegressor"]
