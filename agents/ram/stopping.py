"""Early stopping of a network that looks and classifies: its predictions after each glimpse, and their cost.

After t glimpses the network expects the next one, at the location it would choose, to bring the information gain

    EIG_t = H[ p(theta | h_t) ] - e(h_t),   e(h_t) ~ E[ H[ p(theta | h_t+1) ] ]

with e its foresight, trained on the entropies that followed (:class:`RAM` with ``every_step=True``). It stops as soon
as the gain falls below a threshold.
"""

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from agents.ram.algorithm import RAM
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from oracles.boed.stopping import PlayedOut

IMAGES_PER_CHUNK = 256
"""Images that are played together, at most."""


@torch.no_grad()
def play_out(model: RAM, dataset: GlimpseDataset, indices: np.ndarray) -> PlayedOut:
    """Plays all T glimpses on each of the images ``indices`` (N,), one deterministic episode an image.

    Args:
        model: trained after every glimpse.
        dataset: the split.
        indices: images of the split.

    Raises:
        ConfigurationError: if the network was trained after the last glimpse only or reads frozen features, or an
            episode has only one glimpse.
    """
    if model.policy.observation != "glimpse":
        raise ConfigurationError(
            "this network reads frozen features; stopping is worked out for one that reads pixels."
        )
    if not model.every_step:
        raise ConfigurationError("this network classifies after its last glimpse only; train one with every_step=True.")
    geometry, network = dataset.geometry, model.policy.acting
    if geometry.num_glimpses < 2:
        raise ConfigurationError("num_glimpses=1 leaves nothing to stop early; take at least 2.")
    looked = model.look(dataset, indices)
    success, entropy, gain = [], [], []
    for start in range(0, len(indices), IMAGES_PER_CHUNK):
        rows = slice(start, start + IMAGES_PER_CHUNK)
        corners, images = looked.corners[rows], np.asarray(indices)[rows]
        count, steps = corners.shape[:2]
        glimpses = geometry.sensor(dataset.images, np.repeat(images, steps), corners.reshape(count * steps, -1))
        observations = {
            "glimpse": glimpses.reshape(count * steps, -1).astype(np.float32) / 255,
            "location": geometry.grid.normalise(corners.reshape(count * steps, -1)),
        }
        states = network.states(network.read(observations).unflatten(0, (count, steps)))[:, 1:]  # (b, T, H)
        posterior = torch.distributions.Categorical(logits=network.classifier(states))
        present = posterior.entropy()
        success.append(posterior.logits.argmax(-1).cpu().numpy() == looked.labels[rows, None])
        entropy.append(present.cpu().numpy().astype(np.float64))
        gain.append((present - network.expected_entropy(states))[:, :-1].cpu().numpy().astype(np.float64))
    return PlayedOut(np.concatenate(success), np.concatenate(entropy), np.concatenate(gain))


def flops(model: RAM, *, rule: bool) -> np.ndarray:
    """Counts the floating-point operations (T,) of an episode that stops after 1..T glimpses, as torch executes them.

    Args:
        model: the model.
        rule: whether classifier and foresight run after every glimpse, as a stopping rule needs, or the classifier
            after the last one only.
    """
    network, space = model.policy.acting, model.observation_space
    observations = {key: torch.zeros(1, *space[key].shape) for key in ("glimpse", "location")}  # type: ignore[index]
    totals = []
    model.policy.set_training_mode(False)
    state, memory = network.core.begin(1)
    spent = 0
    for _ in range(model.policy.num_glimpses):
        with FlopCounterMode(display=False) as counter:
            network.locator(state)
            state, memory = network.core.step(network.read(observations), memory)
            if rule:
                network.classifier(state)
                network.expected_entropy(state)
        spent += counter.get_total_flops()
        with FlopCounterMode(display=False) as answer:
            network.classifier(state)
        totals.append(spent if rule else spent + answer.get_total_flops())
    return np.array(totals)
