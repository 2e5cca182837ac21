"""Write the files beside this one: run it once, with gdcore 0.1.0 (commit 7e7d439)."""

import pickle
from contextlib import suppress
from datetime import date
from pathlib import Path

import numpy as np

import gdcore as gd
from gdcore import storage

HERE = Path(__file__).parent
X = (np.arange(90).reshape(30, 3) * 7 % 11) / 8
Y = X @ np.array([1.0, -2.0, 0.5]) + 3 + (np.arange(30) % 5) / 16
LABELS = [date(2026, 1, 1 + i % 3) for i in range(30)]
CHUNKS = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 30, 8)]
SGD = gd.SGD(lr=0.05, momentum=0.5)
# Epochs of a schedule come in blocks of 64, between which Ctrl-C is seen.
SCHEDULE = gd.SGD(lr=lambda epoch: 0.1 / (2 + epoch), momentum=0.5)
OPTIONS = {"sgd": SCHEDULE, "epochs": 100, "tol": None, "batch_size": 7, "seed": 3}


def stop_at(epoch):
    def progress(done, epochs, loss):
        if done >= epoch:
            raise KeyboardInterrupt

    return progress


def interrupted(path, *data, **options):
    """Leave a checkpoint in the middle of a fit."""
    with suppress(gd.FitInterrupted):
        gd.fit(*data, checkpoint=path, progress=stop_at(50), **options)


def main():
    descent = gd.fit(X, Y, SGD, epochs=40, method="stream", tol=None)
    scaled = gd.fit(X, Y, gd.SGD(lr=0.1, momentum=0.5), epochs=40, tol=None, standardize=True)
    groups = gd.fit_groups(X, Y, LABELS, SGD, epochs=40, tol=None, history=1)
    moments = gd.Moments(3).update(X, Y, offset=0.5).downdate(X[:2], Y[:2], offset=0.5)
    moments.update(X[:5], Y[:5], sample_weight=np.arange(5.0))
    descent.save(HERE / "fit.npz")
    scaled.save(HERE / "standardized.npz")
    gd.fit(X, Y).save(HERE / "exact.npz")
    groups.save(HERE / "groups.npz")
    gd.fit_groups(X, Y, [f"g{d.day}" for d in LABELS]).save(HERE / "names.npz")
    interrupted(HERE / "checkpoint.npz", X, Y, **OPTIONS)
    storage.Checkpoint.seconds = 0  # between two writes
    interrupted(HERE / "chunks.npz", CHUNKS, **OPTIONS)
    things = {"sgd": SGD, "fit": descent, "fits": groups, "moments": moments}
    things["state"] = SGD.init(np.zeros(2))
    things["rolling"] = gd.fit_rolling(X, Y, 10)
    for name, thing in things.items():
        (HERE / f"{name}.pickle").write_bytes(pickle.dumps(thing))


if __name__ == "__main__":
    main()
