from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.algorithms.demonstrations import demonstration_rewards
from agents.registry import ALGORITHMS, ARCHITECTURES, make_model, steps_between_updates
from agents.vec_env import GlimpseVecEnv
from glimpse_env.vector_env import GlimpseVectorEnv
from tests.glimpse_env.judge.test_frozen import frozen_judge
from tests.support.toy import toy_dataset, toy_judge
from tests.support.toy_agents import (
    OBSERVATIONS,
    STEPS,
    equal,
    random_data,
    state_observations,
    toy_data,
    toy_model,
    toy_vec_env,
    weights_of,
)

ON_POLICY = tuple(algo for algo, spec in ALGORITHMS.items() if not spec.off_policy)
OFF_POLICY = tuple(algo for algo, spec in ALGORITHMS.items() if spec.off_policy)
NOT_RECURRENT = tuple(algo for algo in ON_POLICY if ALGORITHMS[algo].core is None)


# --- off-policy algorithms


def rewards_of(judge: Any) -> np.ndarray:
    """Returns the environment's rewards (N, T) for :func:`random_data`."""
    return demonstration_rewards(random_data(), toy_dataset(), judge)


@pytest.mark.parametrize("algo", OFF_POLICY)
@pytest.mark.parametrize("num_envs", [1, 6])
def test_off_policy_algorithms_are_trained_after_whole_episodes(algo: str, num_envs: int) -> None:
    for frequency, options in ((STEPS, {}), (3 * STEPS, {"train_freq": 3 * STEPS})):
        model: Any = make_model(algo, toy_vec_env(num_envs), seed=0, judge=toy_judge(), device="cpu", **options)
        assert model.train_freq.frequency == frequency
        assert steps_between_updates(model) == frequency * num_envs
        trained: list[int] = []
        model.train = lambda *_, model=model, trained=trained, **__: trained.append(model.num_timesteps)
        model.learn(6 * STEPS * num_envs)
        per_training = frequency * num_envs
        assert trained == list(range(per_training, 6 * STEPS * num_envs + 1, per_training))


@pytest.mark.parametrize("algo", OFF_POLICY)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_off_policy_algorithms_learn_in_the_vector_environment(algo: str, observation: Any) -> None:
    """Also from demonstrations; a frozen encoder stays the judge's, all else is trained."""
    judge = frozen_judge() if observation == "features" else toy_judge()
    options = {"num_envs": 4, "posterior_info": False, "observation": observation}
    env = GlimpseVecEnv(GlimpseVectorEnv(toy_dataset(), judge, **options))
    model: Any = make_model(algo, env, seed=0, judge=judge, device="cpu")
    assert model.policy.encodes_once == (observation == "history")
    extractor = model.policy.pi_features_extractor
    frozen = [extractor.encoder] if observation == "history" else []
    before, untrained = weights_of(*frozen), weights_of(extractor.core, extractor.glimpse_projection)
    model.load_demonstrations(toy_data(observation), rewards_of(judge))
    assert len(model.pretrain(3, progress=False)) == 3
    assert model.num_timesteps == 0
    after = weights_of(extractor.core, extractor.glimpse_projection)
    model.learn(2 * STEPS * 4)
    assert model.num_timesteps == 2 * STEPS * 4
    for start, between, now in zip(
        untrained, after, weights_of(extractor.core, extractor.glimpse_projection), strict=True
    ):
        assert not torch.equal(start, between)
        assert not torch.equal(between, now)
    assert equal(before, weights_of(*frozen))


@pytest.mark.parametrize("algo", OFF_POLICY)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_off_policy_model_is_the_same_and_trains_on(algo: str, architecture: str, tmp_path: Path) -> None:
    model: Any = toy_model(algo, architecture=architecture).learn(STEPS * 8)
    assert type(model.policy.pi_features_extractor) is ARCHITECTURES[architecture]
    model.save(tmp_path / "model.zip")
    loaded: Any = ALGORITHMS[algo].model.load(tmp_path / "model.zip", env=toy_vec_env(), device="cpu")
    assert equal(weights_of(model.policy), weights_of(loaded.policy))
    observations = {key: value.numpy() for key, value in state_observations(random_data()).items()}
    actions, _ = model.predict(observations, deterministic=True)
    np.testing.assert_array_equal(actions, loaded.predict(observations, deterministic=True)[0])
    loaded.learn(STEPS * 8, reset_num_timesteps=False)
    assert loaded.num_timesteps == 2 * STEPS * 8
    assert not equal(weights_of(model.policy), weights_of(loaded.policy))
