"""Stepping uses one of PyTorch's threads, whatever the process has, so that processes side by side keep their speed."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from glimpse_env import GlimpseVectorEnv
from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.observations import HistoryObserver
from tests.support.toy import CountingJudge, toy_dataset, toy_judge


class WatchfulJudge(CountingJudge):
    """Notes how many threads there are whenever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def probabilities(self, *arguments: np.ndarray) -> np.ndarray:
        self.threads.add(torch.get_num_threads())
        return super().probabilities(*arguments)


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("variable", "count"), [("", 1), ("2", 2), ("64", 3)])
def test_a_step_uses_one_thread_or_as_many_as_asked_for(
    monkeypatch: pytest.MonkeyPatch, variable: str, count: int
) -> None:
    monkeypatch.setenv("GLIMPSE_THREADS", variable)
    converting: set[int] = set()
    write = HistoryObserver.write

    def watched(self: HistoryObserver, *arguments: object) -> None:
        converting.add(torch.get_num_threads())
        write(self, *arguments)

    monkeypatch.setattr(HistoryObserver, "write", watched)
    judge = WatchfulJudge()
    env = GlimpseVectorEnv(toy_dataset(), judge, num_envs=2)
    env.reset(seed=0)
    for location in range(5):
        env.step(np.full(2, location))
        assert torch.get_num_threads() == 3
    assert judge.threads == converting == {count}


def test_threads_change_nothing_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for threads in ("1", "3"):
        monkeypatch.setenv("GLIMPSE_THREADS", threads)
        env = GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=600)
        env.reset(seed=0)
        observations, _, _, _, info = env.step(np.arange(600) % 64)
        results.append((observations["glimpses"], info["probabilities"]))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5)


@pytest.mark.parametrize("variable", ["0", "-1", "many"])
def test_a_wrong_number_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("GLIMPSE_THREADS", variable)
    with pytest.raises(ConfigurationError, match=f"GLIMPSE_THREADS='{variable}'"):
        GlimpseVectorEnv(toy_dataset(), toy_judge(), num_envs=1)
