"""What a page says of a data set that no class can: where the images are from, who may use them, how to get them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetNote:
    """The words about one data set."""

    title: str
    """Its name in headings."""
    images: str
    """One sentence: what the images show, as Markdown."""
    licence: str
    """Who may use the images, as Markdown."""
    get: str
    """How to get them, as Markdown."""
    classes: int = 2
    """Number of classes of the whole data set, where its class knows it from files only."""
    classes_vary: bool = False
    """Whether there are as many classes as the files at hand have."""
    pages: tuple[str, ...] = ()
    """Pages below ``docs`` that have more, as Markdown links without the folder: ``"[title](page.md)"``."""


NOTES: dict[str, DatasetNote] = {
    "birds": DatasetNote(
        title="Birds",
        images="Drawn birds of 48 species in eight families. A family is recognised by its plumage, its six species by "
        "one small mark, and which part of the body bears the mark depends on the family: so where to look next "
        "depends on what was seen.",
        licence="MIT, as the package: the birds are drawn by its own code.",
        get="Nothing to get: they are drawn on first use, in half a minute, and kept in the cache. Judge and amortised "
        "oracles ship with the package.",
        pages=("[The oracle](oracle.md#glimpsebirds-v0)", "[The benchmark](benchmark.md)"),
    ),
    "digits": DatasetNote(
        title="Digits",
        images="A digit of scikit-learn's `load_digits` somewhere on an empty canvas, among four pieces of others.",
        licence="The digits are the test part of [Optical Recognition of Handwritten Digits]"
        "(https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits) (E. Alpaydin and C. "
        "Kaynak, UCI Machine Learning Repository, CC BY 4.0).",
        get="Nothing to get: they come with scikit-learn. Judge and amortised oracles ship with the package.",
        pages=("[The oracle](oracle.md#glimpsedigits-v0)",),
    ),
    "mnist": DatasetNote(
        title="MNIST",
        images="A digit of MNIST somewhere on an empty canvas, among four pieces of other digits: the cluttered "
        "translated MNIST of [RAM](https://arxiv.org/abs/1406.6247).",
        licence="Y. LeCun and C. Cortes hold the copyright of MNIST, which derives from data of NIST; it is under CC "
        "BY-SA 3.0, says [TensorFlow](https://www.tensorflow.org/api_docs/python/tf/keras/datasets/mnist/load_data). "
        "Nothing of it comes with the package, and no picture of it is shown here.",
        get="`glimpse download-data mnist`, or set `GLIMPSE_DATA` to the folder that has `mnist/`. The first "
        "`train-agent` also trains a judge and an oracle, in about three quarters of an hour on two cores, and "
        "keeps them.",
        pages=("[The oracle](oracle.md#glimpsemnist-v0)", "[The benchmark](benchmark.md#speed-and-spread-mnist)"),
    ),
    "signpost": DatasetNote(
        title="Signpost",
        images="A diagnostic: an arrow in the middle says which of eight places around it shows the class, and tells "
        "nothing of the class itself. Two glimpses suffice; greedy design never begins with the arrow.",
        licence="MIT, as the package: the images are drawn by its own code.",
        get="Nothing to get: they are drawn on first use, in less than a second. The judge ships with the package.",
        pages=("[The ids at a glance](concepts/ids.md#diagnostics)",),
    ),
    "needle": DatasetNote(
        title="Needle",
        images="A diagnostic: one of 2500 places shows the class, every other one in which direction it lies. "
        "Bisection finds it in six glimpses; greedy design guesses among the places left over.",
        licence="MIT, as the package: the images are drawn by its own code.",
        get="Nothing to get: they are drawn on first use, in seconds. The judge ships with the package, but not "
        "one for `hints=False`.",
        pages=("[The ids at a glance](concepts/ids.md#diagnostics)",),
    ),
    "memory": DatasetNote(
        title="Memory",
        images="A diagnostic: a trail of maps leads to four glyphs, and only its start tells which of them is the "
        "class. Twelve glimpses suffice for who remembers the start.",
        licence="MIT, as the package: the images are drawn by its own code.",
        get="Nothing to get: they are drawn on first use, in a second. The judge ships with the package.",
        pages=("[The ids at a glance](concepts/ids.md#diagnostics)",),
    ),
    "auto": DatasetNote(  # CUB-200-2011, which the drawn birds stand in for where it is missing
        title="CUB-200-2011",
        images="Photographs of birds, cropped to the bird as in [the paper](https://arxiv.org/abs/1906.05462); parts "
        "are annotated.",
        licence="The photographs' rights are their owners'; the data set is for non-commercial research and education. "
        "Nothing of a photograph is shown here but what glimpses saw of a few.",
        get="`glimpse download-data cub`, or set `GLIMPSE_DATA` to the folder that has `CUB_200_2011/`, "
        "whole or with some of its species. The extra `pretrained` gives the judge its frozen encoder; features and "
        "judge take some 20 minutes on two cores, once.",
        classes=200,
        classes_vary=True,
        pages=(
            "[Photographs](photographs.md)",
            "[Where people look](human.md)",
            "[The oracle](oracle.md#glimpsecub-v0)",
        ),
    ),
    "cub-full": DatasetNote(
        title="CUB-200-2011, whole",
        images="The whole photographs of CUB-200-2011 in a black square: the bird has to be found first.",
        licence="As of `GlimpseCUB-v0`: the photographs' rights are their owners'; the data set is for non-commercial "
        "research and education.",
        get="As for `GlimpseCUB-v0`: `glimpse download-data cub`.",
        classes=200,
        classes_vary=True,
        pages=("[Photographs](photographs.md#cub-30-species-whole-find-the-bird)", "[Where people look](human.md)"),
    ),
    "celeba-hq": DatasetNote(
        title="CelebA-HQ",
        images="Photographs of faces, with or without one of 40 attributes, on the paper's grid of 50 x 50 locations.",
        licence="[CelebAMask-HQ](https://github.com/switchablenorms/CelebAMask-HQ) is for non-commercial research and "
        "education only.",
        get="Get `CelebAMask-HQ.zip` from [its page](https://github.com/switchablenorms/CelebAMask-HQ), unpack it, and "
        "set `GLIMPSE_DATA` to the folder that has `CelebAMask-HQ/`.",
        pages=("[Faces on a fine grid](fine_grid.md)",),
    ),
    "folder": DatasetNote(
        title="Your own images",
        images="Any folder with a subfolder of images for each class.",
        licence="Yours.",
        get="`root='photos'`; see [your own images](howto/own_data.md). Its judge is trained once, by the command that "
        "the error message names.",
        classes_vary=True,
        pages=("[Your own images](howto/own_data.md)", "[80 species](photographs.md#80-species-cropped)"),
    ),
}
