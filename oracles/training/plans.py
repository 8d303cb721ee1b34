"""How judges and amortised oracles are trained: the numbers, without what uses them."""

from dataclasses import dataclass

from glimpse_env.checks import check_settings


@dataclass(frozen=True)
class JudgePlan:
    """How a judge is trained.

    Raises:
        ConfigurationError: if a value is out of range.
    """

    passes: int = 12
    """Passes over a fold's training images (freshly augmented or composed each time)."""
    rounds: int = 2
    """How often, evenly spread over the passes, histories of the oracle under the present judge are collected."""
    visited_images: int = 1500
    """Images per round whose histories are collected, at most."""
    visited_share: float = 0.25
    """Share of each minibatch whose images carry visited histories instead of random ones."""
    batch_size: int = 64
    """Images per minibatch."""
    histories: int = 8
    """Random histories per image; each is scored after every number of glimpses 0..T."""
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.01
    """AdamW's, for weights with more than one dimension."""
    part_weight: float = 0.5
    """Weight of the auxiliary regression of the parts' places, where a data set has parts."""
    features: int = 192
    """F, see :class:`glimpse_env.judge.posterior.PosteriorConfig`, as are ``embedding`` and ``hidden``."""
    embedding: int = 192
    """D."""
    hidden: int = 128
    """Width of the head's hidden layer."""
    start: str | None = None
    """Data set whose judge the glimpse encoder starts from, which must have the same shapes; the data set itself, where
    it has zooms, for its judge without zooms, whose weights are all taken over and whose glimpse encoder stays as it
    is; None starts afresh."""
    heldout_images: int = 2000
    """Held-out images for calibration and the scores, at most."""
    encoder: str = "convolutional"
    """Encoder of glimpses: convolutions trained with the network, or the name of a frozen one, whose table of features
    of the training images, and their mirror images where those are as likely, takes the images' place."""
    width: int = 256
    """W, numbers to which a frozen encoder's features are reduced; 0 keeps them all. It stands for ``features``."""
    dropout: float = 0.0
    """See :class:`glimpse_env.judge.posterior.PosteriorConfig`, as for ``input_dropout``."""
    input_dropout: float = 0.0
    """Share of a glimpse's features that training drops."""
    label_smoothing: float = 0.0
    """Probability that the loss's targets spread evenly over the classes."""

    def __post_init__(self) -> None:
        counts = ("passes", "visited_images", "batch_size", "histories", "features", "embedding", "hidden")
        check_settings(
            self,
            **dict.fromkeys((*counts, "heldout_images"), (1, None)),
            **dict.fromkeys(("rounds", "learning_rate", "weight_decay", "part_weight", "width"), (0, None)),
            **dict.fromkeys(("visited_share", "dropout", "input_dropout", "label_smoothing"), (0, 1)),
        )


@dataclass(frozen=True)
class ScorerPlan:
    """How the networks of an amortised oracle are trained.

    Raises:
        ConfigurationError: if a value is out of range.
    """

    images: int = 96_000
    """Images that each network sees, counted with repetition."""
    histories: int = 8
    """Histories per image."""
    batch_size: int = 32
    """Images per minibatch."""
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.01
    """AdamW's, for weights with more than one dimension."""
    exploration: float = 0.25
    """Share of the glimpses of training histories that are random."""
    locations: int = 15
    """Locations per history whose targets are computed: a third has the best present scores, the others are random."""
    ahead: int = 9
    """Locations per history whose targets are computed, where a target needs a rollout."""
    relative: int = 0
    """Channels of the network's maps over relative offsets; 0 for none. They pay where an object may lie anywhere. A
    network that looks ahead has those of the greedy one."""
    chunk: int = 9600
    """Images between two checkpoints."""

    def __post_init__(self) -> None:
        counts = ("images", "histories", "batch_size", "locations", "ahead", "chunk")
        check_settings(
            self,
            exploration=(0, 1),
            **dict.fromkeys(counts, (1, None)),
            **dict.fromkeys(("learning_rate", "weight_decay", "relative"), (0, None)),
        )
