"""Demonstrations through a remote folder of Minari: uploaded to a hub on the loopback, and downloaded elsewhere."""

from pathlib import Path

import pytest

from glimpse_env.datasets import make_source
from glimpse_env.judge.judge import find_judge
from oracles.demonstrations import generate
from oracles.exchange.minari import export_demonstrations, import_demonstrations
from tests.support.toy import write_toy_judge
from tests.support.toy_hub import TOKEN, toy_hub, use_hub

minari = pytest.importorskip("minari", reason="pip install -c constraints.txt -e '.[minari]'")
pytest.importorskip("huggingface_hub", reason="pip install -c constraints.txt -e '.[hub]'")


@pytest.mark.usefixtures("fresh_cache")
def test_demonstrations_come_back_from_a_remote_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source("digits")
    write_toy_judge(source)
    judge = find_judge(source)
    made = generate("oracle", source, judge, 5, out=tmp_path / "demos.npz")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "mine"))
    monkeypatch.setenv("MINARI_REMOTE", "hf://me")
    export_demonstrations(made, source, judge, "glimpse/digits/oracle-v0")
    with toy_hub() as hub:
        use_hub(hub, monkeypatch, tmp_path / "hub")
        hub.lfs = ()
        minari.upload_dataset("glimpse/digits/oracle-v0", TOKEN)
        assert "datasets/me/glimpse" in hub.repos
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "theirs"))
        assert list(minari.list_remote_datasets()) == ["glimpse/digits/oracle-v0"]
        minari.download_dataset("glimpse/digits/oracle-v0")
    import_demonstrations("glimpse/digits/oracle-v0").save(tmp_path / "back.npz")
    for suffix in (".npz", ".json"):
        back, before = ((tmp_path / name).with_suffix(suffix) for name in ("back", "demos"))
        assert back.read_bytes() == before.read_bytes()
