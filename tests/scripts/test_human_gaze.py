"""The script that compares policies with human gaze, on a tiny CUB with an untrained judge."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agents.evaluation.gaze import MEASURES, People
from glimpse_env.datasets.cub import CUB200
from glimpse_env.datasets.gaze import CUBGaze
from tests.scripts.test_scripts import call
from tests.support.tiny_data import write_tiny_cub, write_tiny_gaze
from tests.support.toy import write_toy_judge


@pytest.fixture
def root(tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data sets with the tiny CUB, which has a judge, and no gaze; the working folder is another."""
    write_tiny_cub(tmp_path / "data")
    monkeypatch.setenv("GLIMPSE_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    write_toy_judge(CUB200())
    return tmp_path / "data"


def test_policies_stand_between_the_centre_and_people(root, capsys):
    write_tiny_gaze(root)
    page = Path("page.md")
    page.write_text("# Page\n\n<!-- table:cub -->\nold\n<!-- /table:cub -->\nend\n")
    words = ["--policies", "random", "boed", "--shown", "2", "--into", str(page)]
    call("measure/human_gaze", *words)
    told, content = capsys.readouterr().out, json.loads(Path("runs/human.json").read_text())
    table = page.read_text().split("<!-- table:cub -->\n")[1].split("\n<!-- /table:cub -->")[0]
    assert table in told
    assert page.read_text().endswith("end\n")
    assert [line.split(" | ")[0] for line in table.splitlines()[2:7]] == [
        "| people, each run against the others",
        "| centre (a Gaussian; outwards from it)",
        "| random",
        "| BOED",
        "| BOED, its maps",
    ]
    assert content["images"] == 3
    assert content["command"] == (
        "python scripts/measure/human_gaze.py --policies random boed --shown 2 --into page.md"
    )
    people = People(CUBGaze(CUB200()), "test", np.arange(3)).ceiling(8.0)
    for measure in MEASURES:
        figures = content["agreement"]["people"][measure]
        assert figures["value"]["value"] == pytest.approx(getattr(people, measure).mean())
        assert figures["less_people"]["value"] == 0
    assert content["agreement"]["boed maps"]["dtw"]["value"] == {"value": None, "interval": None}
    assert list(content["people_success"]) == ["all runs", *(f"run {run}" for run in range(1, 6))]
    for name, least in (("examples", 2 * 2.5 * 130), ("agreement", 400)):
        with Image.open(f"runs/human/cub_{name}.png") as picture:
            assert picture.size[1] >= least
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "GlimpseDigits-v0"], "not of data set 'digits'"),
        (["--policies", "human"], "neither human nor centre"),
        ([], "human gaze on CUB-200-2011 was not found"),
    ],
)
def test_mistakes_are_named(root, words, message):
    with pytest.raises(SystemExit, match=message):
        call("measure/human_gaze", *words)
    assert not Path("runs").exists()


def test_images_that_nobody_looked_at_twice_are_named(root):
    write_tiny_gaze(root, {1: ["21,80,60,40,30,100"]})
    with pytest.raises(SystemExit, match=r"0 of 1000 test images were looked at in two runs; ask for more --images\."):
        call("measure/human_gaze", "--policies", "random")
