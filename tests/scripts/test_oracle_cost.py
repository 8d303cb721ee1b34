"""The oracle's benchmark at toy size."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro

from agents.evaluation.cost import banks, masked
from agents.evaluation.cost import oracle as oracle_cost
from agents.evaluation.cost.settings import QUICK, CostSettings
from tests.scripts.test_scripts import load


def test_a_quick_run_writes_figures_page_and_plot_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("measure/oracle_cost")
    out, page, picture = tmp_path / "figures.json", tmp_path / "page.md", tmp_path / "plot.png"
    words = ["--quick", "--threads", "1", "--work", str(tmp_path), "--out", str(out), "--page", str(page)]
    args = tyro.cli(module.Args, args=[*words, "--picture", str(picture)])
    cache = os.environ.get("GLIMPSE_CACHE")

    measured = oracle_cost.published_cell

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(oracle_cost, "published_cell", stop)
    with pytest.raises(KeyboardInterrupt):
        module.main(args)
    before = json.loads(out.read_text())
    assert not before["complete"]
    assert {path.name for path in tmp_path.iterdir()} == {out.name}, "the temporary folder is gone"
    assert os.environ.get("GLIMPSE_CACHE") == cache

    monkeypatch.setattr(oracle_cost, "published_cell", measured)
    for name in ("search_cell", "recall_cell"):
        monkeypatch.setattr(oracle_cost, name, stop)
    module.main(args)
    report = json.loads(out.read_text())
    assert report["complete"]
    assert {name: report["cells"][name] for name in before["cells"]} == before["cells"]

    for size in report["settings"]["banks"]:
        for match in ("embedding", "pixels"):
            exact, coarse, recall = (
                report["cells"][f"{size}/{match}/{kind}"] for kind in ("exact", "coarse", "recall")
            )
            assert exact["wall_ms"] > 0
            assert 0.8 <= coarse["same_choices"] <= 1
            shares = [row["mean"] for row in recall["recall"]]
            assert 0.5 < min(shares) <= max(shares) <= 1
            assert f"| {size} | {match} | coarse |" in page.read_text()
    again = tyro.cli(module.Args, args=report["command"].split()[2:])
    assert again.to_json() == report["settings"]
    published = report["cells"]["published"]
    maps = 4 * 6 * 169
    assert published["passes"] == maps
    assert published["epe"]["mflop"] == pytest.approx(maps * 2 * (160 * 128 + 128 * 48) / 1e6, rel=1e-3)
    assert published["cnn"]["small"]["mflop"] > 20
    by_hand = sum(2 * 9 * a * b * (64 >> i) ** 2 for i, (a, b) in enumerate([(4, 16), (16, 32), (32, 64), (64, 64)]))
    assert published["cnn"]["small"]["mflop"] == pytest.approx((by_hand + 2 * 64 * 48) / 1e6)
    assert published["cnn"]["plain"]["cpu_ratio"] > 100
    assert picture.stat().st_size > 10_000
    assert torch.get_num_threads() == 1


def test_masked_images_show_the_history_and_the_completions_glimpse(tmp_path: Path) -> None:
    with banks.cache_in(tmp_path) as folder:
        setting = banks.Setting(banks.World(CostSettings(**QUICK), folder), 100)
        looked, samples = np.array([0, 14, 168]), torch.tensor([70, 3])
        images = masked.MaskedImages(setting, looked, samples)(np.array([5, 169 + 6])).numpy()
        for image, sample, place in zip(images, samples, (5, 6), strict=True):
            r, c = setting.judge.grid.corners[place]
            expected = np.zeros((128, 128, 4))
            for (row, col), source in (((0, 0), setting.test.images[0]), ((8, 8), setting.test.images[0])):
                expected[row : row + 32, col : col + 32, :3] = source[row : row + 32, col : col + 32] / 255
                expected[row : row + 32, col : col + 32, 3] = 1
            glimpse = setting.dataset.images[int(sample), r : r + 32, c : c + 32]
            expected[r : r + 32, c : c + 32, :3] = glimpse / 255
            expected[r : r + 32, c : c + 32, 3] = 1
            np.testing.assert_allclose(image.transpose(1, 2, 0), expected, atol=1e-6)


def test_a_larger_bank_holds_different_copies(tmp_path: Path) -> None:
    with banks.cache_in(tmp_path) as folder:
        world = banks.World(CostSettings(**QUICK), folder)
        images, labels = world.train.images, world.train.labels
        assert len({image.tobytes() for image in images}) == len(images) == 100
        assert np.array_equal(labels[60:], labels[:40])
        copy = banks.copy_of(1)
        back = np.roll(images[60], (-copy.down, -copy.right), axis=(0, 1))[8:-8, ::-1][:, 8:-8].astype(int)
        assert np.abs(back - np.roll(images[0], 0)[8:-8, 8:-8]).max() <= banks.NOISE
