"""The notebooks run as they are, at toy size: the cell tagged `parameters` is the one that a test replaces."""

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
TOY = {"NUM_DEMONSTRATIONS": 64, "PASSES": 2, "STEPS": 768, "NUM_IMAGES": 20}


def run(name: str) -> dict[str, Any]:
    """Runs the code cells of a notebook in order; returns its names."""
    content = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # kept without
            exec(compile("".join(cell["source"]), f"{name}:{cell['id']}", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                assert {one for one in names if one.isupper()} == set(TOY)
                names.update(TOY)
    return names


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("fresh_cache")
def test_first_steps() -> None:
    episodes = run("first_steps.ipynb")["episodes"]
    assert all(len(entropies) == 6 for entropies, _, _ in episodes.values())
    assert episodes["oracle"][0][-1] < episodes["random"][0][-1]


@pytest.mark.usefixtures("fresh_cache")
def test_train_and_compare() -> None:
    names = run("train_and_compare.ipynb")
    assert names["demonstrations"].locations.shape == (TOY["NUM_DEMONSTRATIONS"], 6)
    assert names["result"].train_loss[-1] < names["result"].train_loss[0]
    assert names["model"].num_timesteps >= TOY["STEPS"]
    assert set(names["evaluations"]) == {"cloned", "fine-tuned", "random", "oracle"}
