"""The oracle as a policy: what it may not know, what its state is, and where its bank comes from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from glimpse_env.errors import ConfigurationError, IncoherentPosteriorWarning
from glimpse_env.judge.judge import Judge
from glimpse_env.rollout import play
from glimpse_env.sensing.observations import Histories, HistoryObserver
from oracles.base import Observations
from oracles.boed.completion import CompletionConfig, ImageBank, queries_of
from oracles.boed.oracle import MIN_PREDICTIONS, BOEDOracle, OracleConfig
from tests.support import toy

CONFIG = OracleConfig(completion=CompletionConfig(effective_samples=4, samples=12, short_list=12))
GEOMETRY = toy.GEOMETRY


def observe(dataset, judge, rows: np.ndarray, locations: np.ndarray) -> Observations:  # type: ignore[no-untyped-def]
    """History observations of images ``rows`` (B,) after looking at ``locations`` (B, t)."""
    count = locations.shape[1]
    histories = Histories.empty(len(rows), GEOMETRY.num_glimpses, 12, 1)
    for b, row in enumerate(rows):
        for t, (r, c) in enumerate(judge.grid.corners[locations[b]]):
            histories.corners[b, t] = r, c
            histories.glimpses[b, t] = dataset.images[row, r : r + 12, c : c + 12]
        histories.counts[b] = count
    return HistoryObserver(GEOMETRY, 1)(histories)


@pytest.mark.parametrize("match", ["pixels", "embedding"])
@pytest.mark.parametrize("label_weight", [0.0, 1.0])
def test_the_same_glimpses_on_two_images_give_the_same_choice_bit_for_bit(match: str, label_weight: float) -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    images = np.array(dataset.images)
    locations = np.array([[5, 40]])
    images[1] = np.random.default_rng(9).integers(0, 256, images[1].shape)
    for r, c in judge.grid.corners[locations[0]]:
        images[1, r : r + 12, c : c + 12] = images[0, r : r + 12, c : c + 12]
    two = toy.toy_dataset(images=images, labels=np.r_[0, 1, dataset.labels[2:]])
    completion = CompletionConfig(match, effective_samples=4, label_weight=label_weight, samples=12, short_list=12)
    oracle = BOEDOracle(dataset, judge, OracleConfig(completion=completion))
    maps, actions = [], []
    for image in (0, 1):
        action, _ = oracle.predict(observe(two, judge, np.array([image]), locations))
        maps.append(oracle.last_maps.copy())
        actions.append(action)
    assert images[0].tobytes() != images[1].tobytes()
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(actions[0], actions[1])


def test_state_carried_along_equals_starting_afresh_at_every_step() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    oracle, rows = BOEDOracle(dataset, judge, CONFIG), np.arange(5)
    locations, state = np.empty((5, 0), dtype=np.int64), None
    for _ in range(GEOMETRY.num_glimpses):
        observation = observe(dataset, judge, rows, locations)
        action, state = oracle.predict(observation, state, np.zeros(5, dtype=bool))
        carried = oracle.last_maps
        again, _ = oracle.predict(observation)
        np.testing.assert_allclose(carried, oracle.last_maps, atol=1e-5)
        np.testing.assert_array_equal(action, again)
        locations = np.c_[locations, action]
    assert all(len(set(row)) == GEOMETRY.num_glimpses for row in locations), "no location twice"


def test_a_new_episode_forgets_the_last_one() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    oracle = BOEDOracle(dataset, judge, CONFIG)
    _, state = oracle.predict(observe(dataset, judge, np.array([0, 1]), np.array([[3, 9], [3, 9]])))
    later = observe(dataset, judge, np.array([0, 1]), np.array([[3, 9, 20], [3, 9, 20]]))
    begun = observe(dataset, judge, np.array([5, 5]), np.empty((2, 0), dtype=np.int64))
    mixed = {key: np.stack([begun[key][0], later[key][1]]) for key in later}
    oracle.predict(mixed, state, np.array([True, False]))
    maps = oracle.last_maps
    np.testing.assert_allclose(maps[0], oracle.first_map())
    oracle.predict(later)
    np.testing.assert_allclose(maps[1], oracle.last_maps[1], atol=1e-5)
    with pytest.raises(ConfigurationError, match="other episodes"):
        oracle.predict(begun, state)


def test_banks_hold_what_their_network_never_saw_and_leave_the_image_itself_out() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    for k in (0, 1):
        bank = ImageBank(dataset, judge, k, size=100)
        assert (dataset.folds[bank.rows] == k).all()
        assert len(bank) == (dataset.folds == k).sum()
    oracle = BOEDOracle(dataset, judge, CONFIG, network=1)
    member = int(oracle.banks[0].rows[3])
    state = oracle.start(dataset, np.array([member, 0]))
    assert torch.isinf(state.distances[0]).nonzero().tolist() == [[0, 3]]
    for others in (toy.toy_dataset(split="test"), toy.toy_dataset(fingerprint="another data set")):
        assert not torch.isinf(oracle.start(others, np.array([member])).distances[0]).any()


def test_leaving_an_image_out_equals_a_bank_without_it() -> None:
    judge, dataset = toy.toy_judge(num_networks=1), toy.toy_dataset(num_folds=1)
    out = 4
    oracle = BOEDOracle(dataset, judge, CONFIG)
    kept = np.delete(np.arange(len(dataset)), out)
    without = toy.toy_dataset(
        images=dataset.images[kept],
        labels=dataset.labels[kept],
        folds=dataset.folds[kept],
        parts=dataset.parts[kept],
        fingerprint="without",
    )
    observation = observe(dataset, judge, np.array([out]), np.array([[8, 30]]))
    oracle.predict(observation, oracle.start(dataset, np.array([out])))
    smaller = BOEDOracle(without, judge, CONFIG)
    smaller.predict(observation)
    np.testing.assert_allclose(oracle.last_maps, smaller.last_maps, atol=1e-4)


def test_distances_are_those_of_the_patches() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    bank = ImageBank(dataset, judge, 0, size=100)
    corners = np.array([[0, 4], [13, 7], [0, 4]])
    glimpses = np.random.default_rng(2).integers(0, 256, (3, 12, 12, 1), dtype=np.uint8)
    found = bank.squared_distances(
        queries_of(glimpses, judge.embed_glimpses(0, glimpses, corners), "pixels"), corners, "pixels"
    )
    for b, (r, c) in enumerate(corners):
        for n, row in enumerate(bank.rows):
            patch = dataset.images[row, r : r + 12, c : c + 12].astype(float)
            expected = np.square(patch / 255 - glimpses[b] / 255.0).sum()
            assert found[b, n].item() == pytest.approx(expected, rel=1e-3)


def test_embeddings_of_the_bank_are_the_judges() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    bank = ImageBank(dataset, judge, 1, size=100)
    location = 37
    r, c = judge.grid.corners[location]
    glimpses = dataset.images[bank.rows][:, r : r + 12, c : c + 12]
    corners = np.broadcast_to([r, c], (len(bank), 2))
    alone = judge.embed_glimpses(1, np.ascontiguousarray(glimpses), corners)
    np.testing.assert_allclose(bank.embeddings[:, location].float(), alone, rtol=2e-3, atol=2e-3)


def test_without_a_network_named_the_map_is_the_mean_over_networks() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    observation = observe(dataset, judge, np.array([0]), np.array([[5]]))
    maps = []
    for network in (0, 1, None):
        oracle = BOEDOracle(dataset, judge, CONFIG, network=network)
        oracle.predict(observation)
        maps.append(oracle.last_maps)
    np.testing.assert_allclose(maps[2], (maps[0] + maps[1]) / 2, atol=1e-5)


def test_a_single_observation_gives_a_single_action() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    batched = observe(dataset, judge, np.array([2]), np.array([[5]]))
    oracle = BOEDOracle(dataset, judge, CONFIG)
    action, _ = oracle.predict({key: value[0] for key, value in batched.items()})
    assert np.ndim(action) == 0
    assert action == oracle.predict(batched)[0][0]


def test_oracle_lowers_the_entropy_more_than_chance_would() -> None:
    """Even an untrained judge has an entropy; the greedy choice is there to lower it."""
    judge = toy.toy_judge(num_networks=1)
    dataset = toy.toy_dataset(64, num_folds=1)
    oracle = BOEDOracle(dataset, judge, CONFIG)
    chosen = play(oracle, dataset, judge, np.arange(48), progress=False)
    rng = np.random.default_rng(0)

    class Chance:
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            return rng.integers(len(judge.grid), size=len(observation["step"])), state

    random = play(Chance(), dataset, judge, np.arange(48), progress=False)
    assert chosen.entropy[:, -1].mean() < random.entropy[:, -1].mean()


class Forgetful(Judge):
    """Its posterior gets flatter with every glimpse, which no exact one does in expectation."""

    def class_log_probabilities(self, network: int, summed: torch.Tensor, counts: torch.Tensor | int) -> torch.Tensor:
        sharpness = torch.as_tensor(counts).float()[..., None].mul(-4.0).exp()
        logits = torch.arange(self.num_classes) * sharpness
        return logits.expand(*summed.shape[:-1], self.num_classes).log_softmax(-1)


def test_expected_entropies_above_the_present_one_are_counted_and_told_once() -> None:
    plain, dataset = toy.toy_judge(), toy.toy_dataset()
    judge = Forgetful(plain.networks, replace(plain.card, scores={"random_accuracy": [0.4]}))
    oracle = BOEDOracle(dataset, judge, CONFIG)
    few = observe(dataset, judge, np.arange(6), np.array([[3]] * 6))
    begun = observe(dataset, judge, np.arange(6), np.empty((6, 0), dtype=np.int64))
    oracle.predict(begun)
    assert oracle.counters.predictions == 0, "before a glimpse the map is the same for all"
    while oracle.counters.predictions + 6 < MIN_PREDICTIONS:
        oracle.predict(few)
    with pytest.warns(IncoherentPosteriorWarning, match="in 102 of 102 predictions"):
        oracle.predict(few)
    oracle.predict(few)  # a second warning would be an error
    counters = oracle.counters
    assert (counters.predictions, counters.violations) == (108, 108)
    assert (counters.locations, counters.locations_above) == (108 * 64, 108 * 64)
    other = BOEDOracle(dataset, judge, replace(CONFIG, criterion="log_loss"), banks=oracle.banks)
    other.predict(few)
    assert other.counters.predictions == 0


def test_a_judge_in_training_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    plain, dataset = toy.toy_judge(), toy.toy_dataset()
    judge = Forgetful(plain.networks, plain.card)  # no scores yet
    oracle = BOEDOracle(dataset, judge, CONFIG)
    with caplog.at_level("INFO", "oracles.boed.oracle"):
        oracle.predict(observe(dataset, judge, np.arange(MIN_PREDICTIONS) % 24, np.array([[3]] * MIN_PREDICTIONS)))
    assert [record.message for record in caplog.records if "100 of 100" in record.message]


def test_counters_are_those_of_the_maps() -> None:
    """Under an untrained judge some locations are above the present entropy and some below."""
    judge, dataset = toy.toy_judge(num_networks=1, seed=6), toy.toy_dataset(num_folds=1)
    oracle = BOEDOracle(dataset, judge, CONFIG)
    locations = np.random.default_rng(0).integers(64, size=(24, 2))
    observation = observe(dataset, judge, np.arange(24), locations)
    oracle.predict(observation)
    summed = judge.embed_grid(0, dataset.images)[np.arange(24)[:, None], locations].sum(1)
    p = judge.class_log_probabilities(0, summed, 2).exp().numpy()
    present = -(p * np.log(p)).sum(1)
    above = (oracle.last_maps > present[:, None] + 1e-4).sum(1)
    assert oracle.counters.locations_above == above.sum()
    assert oracle.counters.violations == (above == 64).sum()
    assert 0 < (above == 64).sum() < (above > 0).sum()


def test_violations_are_of_the_mean_over_networks() -> None:
    """One network is surer with every glimpse, by more than the other gets less sure."""

    class Divided(Judge):
        def class_log_probabilities(self, network, summed, counts):
            t = torch.as_tensor(counts).float()[..., None]
            sharpness = 3.0 * t if network else (-0.1 * t).exp()
            logits = torch.arange(self.num_classes) * sharpness
            return logits.expand(*summed.shape[:-1], self.num_classes).log_softmax(-1)

    plain, dataset = toy.toy_judge(), toy.toy_dataset()
    judge = Divided(plain.networks, plain.card)
    observation = observe(dataset, judge, np.arange(6), np.array([[3]] * 6))
    violations = []
    for network in (0, 1, None):
        oracle = BOEDOracle(dataset, judge, CONFIG, network=network)
        oracle.predict(observation)
        violations.append(oracle.counters.violations)
    assert violations == [6, 0, 0]


def test_the_heaviest_completions_are_kept() -> None:
    """The best completion of an image in the bank is the image itself."""
    judge, dataset = toy.toy_judge(num_networks=1), toy.toy_dataset(num_folds=1)
    one = OracleConfig(completion=CompletionConfig(bandwidth=1.0, samples=1, short_list=12))
    oracle, row, seen = BOEDOracle(dataset, judge, one), 4, np.array([[8, 30]])
    oracle.predict(observe(dataset, judge, np.array([row]), seen))
    bank = oracle.banks[0]
    summed = judge.embed_grid(0, dataset.images[row : row + 1])[0, seen[0]].sum(0)
    alone = oracle.expected_over(bank, summed, 2, torch.tensor([row]), torch.ones(1))
    np.testing.assert_allclose(oracle.last_maps[0], alone.numpy(), atol=1e-3)


def test_completions_that_all_weigh_the_same_and_keep_their_own_history_are_the_greedy_fixed_sequence() -> None:
    judge, dataset = toy.toy_judge(), toy.toy_dataset()
    bank = ImageBank(dataset, judge, 0, 1000, cached=False)
    completion = CompletionConfig("embedding", bandwidth=1e9, samples=len(bank), short_list=len(bank))
    oracle = BOEDOracle(dataset, judge, OracleConfig("log_loss", completion, len(bank), "completion"), network=0)
    summed = torch.zeros(len(bank), bank.embeddings.shape[-1])
    greedy: list[int] = []
    for count in range(1, GEOMETRY.num_glimpses + 1):
        answers = judge.class_log_probabilities(0, summed[:, None] + bank.embeddings.float(), count)
        losses = -answers.gather(-1, bank.labels[:, None, None].expand(*answers.shape[:2], 1)).mean((0, 2))
        losses[greedy] = torch.inf
        greedy.append(int(losses.argmin()))
        summed = summed + bank.embeddings[:, greedy[-1]].float()
    images = np.random.default_rng(3).integers(0, 256, dataset.images.shape, dtype=np.uint8)
    strangers = toy.toy_dataset(images=images)
    locations = play(oracle, strangers, judge, np.arange(6), progress=False).locations
    np.testing.assert_array_equal(locations, np.tile(greedy, (6, 1)))
