"""The command as a program: interrupts, exit codes, help, what it needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gdcore as gd
from commands import DIABETES, good
from gdcore import cli
from gdcore.cli import app
from gdcore.selftest import SelfTest


class TestInterrupt:
    def test_saves_and_prints_what_was_reached(self, line, tmp_path, monkeypatch):
        fit = gd.fit

        def interrupted(*args, method, **settings):
            if method == "exact":
                return fit(*args, method=method, **settings)
            settings |= {"epochs": 3, "tol": None}
            raise gd.FitInterrupted(fit(*args, method=method, **settings))

        monkeypatch.setattr(gd, "fit", interrupted)
        path, picture = tmp_path / "m.npz", tmp_path / "fit.png"
        command = ("fit", line, "--target", "y", "--save", path, "--plot", picture)
        result = good(*command, code=130)
        assert result.stderr == "Note: interrupted after 3 epochs.\n"
        assert "normal equation" in result.stdout
        assert gd.load(path).epochs == 3
        report = json.loads(good(*command, "--json", code=130).stdout)
        assert report["interrupted"] is True
        assert report["epochs"] == 3

    def test_before_the_fit(self, line, monkeypatch):
        def read_table(path, decimal):
            raise KeyboardInterrupt

        monkeypatch.setattr(app, "read_table", read_table)
        result = good("fit", line, "--target", "y", code=130)
        assert result.output == ""

    @pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
    def test_ctrl_c(self, tmp_path):
        path, state = tmp_path / "m.npz", tmp_path / "state.npz"
        command = [
            *(sys.executable, "-m", "gdcore", "fit", DIABETES, "--target", "progression"),
            *("--epochs", "2000000000", "--tol", "0", "--save", path, "--json"),
            *("--checkpoint", state),
        ]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                give_up = time.monotonic() + 30
                while not state.exists() and time.monotonic() < give_up:
                    time.sleep(0.05)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=30)
            finally:
                process.kill()
        assert process.returncode == 130, err
        report = json.loads(out)
        assert report["interrupted"] is True
        assert gd.load(path).epochs == report["epochs"] > 0


class TestTop:
    def test_version(self):
        assert good("--version").stdout == f"gdcore {gd.__version__}\n"

    def test_help(self):
        assert {"fit", "predict", "config", "selftest"} <= set(good("--help").stdout.split())
        for word in ("--standardize", "Training", "auto|<float>"):
            assert word in good("fit", "-h").stdout

    def test_config(self):
        assert gd.__version__ in good("config").stdout

    def test_selftest(self, monkeypatch):
        for failures, code in ((), 0), (("float32 mse differs",), 1):
            report = SelfTest(7280, ("reference", "baseline"), failures)
            monkeypatch.setattr(gd, "selftest", lambda device, report=report: report)
            assert good("selftest", code=code).stdout == f"{report}\n"

    @pytest.mark.parametrize("command", [["selftest"], ["fit", DIABETES, "--target", "bmi"]])
    def test_a_gpu_that_is_not_there(self, command, tmp_path):
        command = [sys.executable, "-m", "gdcore", *command, "--device", "cuda"]
        nowhere = os.environ | {"GDCORE_CUDA_DRIVER": str(tmp_path / "libcuda.so.1")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=nowhere)
        assert done.returncode == 2, done.stderr
        assert done.stdout == ""
        assert done.stderr.startswith("Error: GDCORE_CUDA_DRIVER names no driver")
        assert done.stderr.count("\n") == 1

    def test_module(self):
        command = [sys.executable, "-m", "gdcore", "fit", DIABETES, "--target", "nothing"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"Error: {DIABETES} has no column 'nothing'; ")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="it is a device of Linux")
    def test_output_on_a_full_disk(self):
        command = [sys.executable, "-m", "gdcore", "fit", DIABETES, "--target", "progression"]
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 2
        assert b"Error: cannot use standard output: No space left on device." in done.stderr

    @pytest.mark.parametrize("module", ["typer", "rich"])
    def test_without_the_extra(self, module):
        code = f"import sys; sys.modules[{module!r}] = None; import gdcore.cli as c; c.main()"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr == (
            f"Error: the command line needs {module}; run: pip install 'gdcore[cli]'.\n"
        )

    def test_main_is_the_app(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["gdcore", "--version"])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 0
        assert capsys.readouterr().out == f"gdcore {gd.__version__}\n"
