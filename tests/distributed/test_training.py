"""Two processes make the steps of one, and stop together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

# float32 sums of a few hundred terms in another order; one row too many or too few moves weights by 1e-2.
ROUNDING = 2e-6


def _end(folder: Path) -> dict[str, Any]:
    with np.load(folder / "end.npz") as found:
        return dict(found)


def test_two_processes_make_the_steps_of_one(launch: Any, tiny: Path, tmp_path: Path) -> None:
    ends = []
    for processes in (1, 2):
        out = tmp_path / f"of {processes}"
        code, said = launch.run(processes, tiny, str(out), "plain", "-")
        assert code == 0, said[-3000:]
        ends.append(_end(out))
    one, two = ends
    assert one["best"] == two["best"] == 2
    assert len(one["losses"]) == 4 and np.ptp(one["losses"]) > 0.01
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=0, atol=ROUNDING, err_msg=name)
    # The bound sees a difference: the weights of the last step are not those of the best.
    latest = launch.weights(tmp_path / "of 1" / "latest.pdparams")
    assert max(np.abs(latest[name] - one[name]).max() for name in latest) > 100 * ROUNDING


@pytest.mark.slow
def test_another_number_of_processes_goes_on_with_a_run(launch: Any, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert launch.run(2, tiny, str(out), "bn", "2")[0] == 4  # NaN in the third step
    code, said = launch.run(1, tiny, str(out), "bn", "-")
    assert code == 0, said[-3000:]
    assert launch.states(out / "latest.states")["step"] == 4
    assert len(_end(out)["losses"]) == 4


@pytest.mark.slow
def test_nan_in_one_process_ends_all_with_one_line(launch: Any, tiny: Path, tmp_path: Path) -> None:
    code, said = launch.run(2, tiny, str(tmp_path / "run"), "bn", "2")
    assert code == 4, said[-3000:]
    lines = [[line for line in launch.log(rank).splitlines() if line.startswith("slim: ")] for rank in (0, 1)]
    assert lines[0] == lines[1] and len(lines[0]) == 1
    assert "is nan at step 3 of 4" in lines[0][0] and "of step 2" in lines[0][0]
    # Paddle's own "C++ Traceback" is the launcher's signal to the process that is left.
    assert '  File "' not in launch.log(0) + launch.log(1)
