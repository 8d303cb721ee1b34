"""Principal components beside scikit-learn's."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from glimpse_env.datasets import make_source
from glimpse_env.encoding.features import GlimpseFeatures, glimpse_features
from glimpse_env.encoding.reduction import Reduction, fit_reduction, reduction_of
from glimpse_env.encoding.registry import load_encoder
from glimpse_env.errors import ArtifactError
from tests.support.toy_encoder import TOY


@pytest.fixture
def features() -> np.ndarray:
    """(300, 12) float32: correlated, of very different sizes, and one constant feature."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12)) * 10.0 ** rng.integers(-1, 3, 12) + rng.normal(size=12)
    x[:, 5] = 3.0
    return x.astype(np.float32)


def test_components_are_those_of_sklearn(features: np.ndarray) -> None:
    x = features.astype(np.float64)
    std = x.std(axis=0)
    std = np.maximum(std, 1e-3 * std.mean())
    standardised = (x - x.mean(axis=0)) / std
    pca = PCA(5).fit(standardised)
    expected = pca.transform(standardised)
    reduced = fit_reduction(features, 5)(torch.from_numpy(features)).numpy()
    assert reduced.std(axis=0).mean() == pytest.approx(1, rel=1e-4)
    factor = 1 / expected.std(axis=0).mean()
    for ours, theirs in zip(reduced.T, factor * expected.T, strict=True):
        assert np.allclose(ours, theirs, atol=1e-3) or np.allclose(ours, -theirs, atol=1e-3)
    shares = reduced.var(axis=0) / factor**2 / standardised.var(axis=0).sum()
    assert np.allclose(shares, pca.explained_variance_ratio_, rtol=1e-4)


def test_directions_are_orthogonal(features: np.ndarray) -> None:
    reduction = fit_reduction(features, 6)
    std = features.astype(np.float64).std(axis=0)
    directions = reduction.components.numpy() * np.maximum(std, 1e-3 * std.mean())[:, None]
    gram = directions.T @ directions
    assert np.allclose(gram, gram[0, 0] * np.eye(6), atol=1e-4 * gram[0, 0])
    assert (directions.max(axis=0) == np.abs(directions).max(axis=0)).all()  # signs are fixed


def test_a_reduction_does_not_depend_on_threads(features: np.ndarray) -> None:
    wide = np.random.default_rng(1).normal(size=(500, 200)).astype(np.float32)
    before = torch.get_num_threads()
    digests = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        digests.append(fit_reduction(wide, 20).digest)
    torch.set_num_threads(before)
    assert digests[0] == digests[1] != fit_reduction(wide, 21).digest


def test_reductions_are_kept_in_the_cache(fresh_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_source("digits")
    encoder = load_encoder(TOY)
    asked = []

    def encode(glimpses: torch.Tensor) -> torch.Tensor:
        asked.append(len(glimpses))
        return GlimpseFeatures(encoder, 1, 1).encode(glimpses)

    first = reduction_of(source, encode, encoder.digest, 8, sample=700)
    assert sum(asked) == 700
    again = reduction_of(source, encode, encoder.digest, 8, sample=700)
    assert sum(asked) == 700
    assert again.digest == first.digest
    for changed in ({"width": 9}, {"sample": 701}, {"seed": 1}, {"encoder": "other"}):
        arguments = {"encoder": encoder.digest, "width": 8, "sample": 700} | changed
        assert reduction_of(source, encode, **arguments).digest != first.digest or "encoder" in changed
    expected, files = first.digest, sorted(fresh_cache.glob("reductions/*.safetensors"))  # the arrays are mapped
    assert len(files) == 5
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    for file in files:
        with pytest.raises(ArtifactError, match=r"holds no reduction .* delete it"):
            Reduction.load(file)
    before = sum(asked)
    assert reduction_of(source, encode, encoder.digest, 8, sample=700).digest == expected
    assert sum(asked) == before + 700
    assert caplog.text.count("is made again: ") == 1
    assert reduction_of(source, encode, encoder.digest, 8, sample=700).digest == expected
    assert sum(asked) == before + 700


def test_features_pickle_by_the_encoders_name(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = glimpse_features(make_source("digits"), TOY, 10)
    pickled = pickle.dumps(features)
    assert len(pickled) < 5000
    twin = pickle.loads(pickled)
    assert twin.encoder is features.encoder
    assert twin.identity == features.identity
    monkeypatch.setattr(features.encoder, "digest", "other")
    with pytest.raises(
        ArtifactError, match=f"has the digest other here, and {twin.identity[len(TOY) + 1 :][:16]} where"
    ):
        pickle.loads(pickled)


def test_shapes_must_agree() -> None:
    with pytest.raises(ArtifactError, match=r"mean \(3,\) and components \(4, 2\)"):
        Reduction(torch.zeros(3), torch.zeros(4, 2))


def test_glimpses_are_reduced(fresh_cache: Path) -> None:
    source = make_source("digits").with_scales(2)
    whole, reduced = glimpse_features(source, TOY, None), glimpse_features(source, TOY, 10)
    assert (whole.width, reduced.width) == (48, 10)
    assert glimpse_features(source, TOY, 10) is reduced
    assert glimpse_features(source, TOY, 0) is whole
    assert glimpse_features(source, TOY, 48).reduction is None
    assert whole.encoder is reduced.encoder
    g = source.geometry.glimpse_size
    glimpses = np.random.default_rng(0).integers(0, 256, (3, 4, g, g, 2), dtype=np.uint8)
    expected = (whole.encode(glimpses) - reduced.reduction.mean) @ reduced.reduction.components
    assert torch.allclose(reduced.encode(glimpses), expected, atol=1e-5)
    glimpses.flags.writeable = False
    assert torch.allclose(reduced.encode(glimpses), expected, atol=1e-5)
    identities = {features.identity for features in (whole, reduced, glimpse_features(source, TOY, 9))}
    assert len(identities) == 3
    assert all(identity.startswith(f"{TOY}-{whole.encoder.digest}-2x-") for identity in identities)
