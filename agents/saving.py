"""Agents in files that run no code when they are read: weights as safetensors, and a card beside them as JSON.

SB3's own file, a zip, holds pickled objects, and reading these runs whatever code they name. It stands beside the other
two for tools that know SB3 only; nothing here reads it unless it is trusted.
"""

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from stable_baselines3.common.save_util import recursive_getattr, recursive_setattr

from agents.as_json import SCALARS, from_json, space_from_json, space_to_json, to_json
from agents.registry import ALGORITHMS, ARCHITECTURES, Algorithm, algorithm_of, runs_code
from agents.shipped import shipped_agent, shipped_ids
from glimpse_env.errors import ArtifactError, ConfigurationError, UntrustedFileError
from glimpse_env.files import digest, read_json, refuse_special, whole_file, write_json
from glimpse_env.registry import Registry

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

FORMAT = 1
BY_ITSELF: Registry[Algorithm] = Registry("algo", {"ram": "agents.ram.algorithm:RAM_ALGORITHM"})
"""Algorithms that have an experiment of their own, and are none of ``--algo``."""
EPISODES = ("ep_info_buffer", "ep_success_buffer")
"""Attributes of SB3's models with the latest episodes, for the log."""
ELSEWHERE = {"tensorboard_log", "verbose"}
"""Attributes that belong to a process and not to the agent."""


def save_agent(
    model: "BaseAlgorithm", path: str | Path, *, algo: str | None = None, architecture: str | None = None
) -> None:
    """Writes an agent: ``<name>.safetensors``, ``<name>.json`` and, if ``path`` is ``<name>.zip``, SB3's file too.

    The card comes last and holds the digests of the others, so that what an interrupted call leaves is recognised.

    Args:
        model: of an algorithm of :func:`agents.make_model`, or :class:`agents.ram.algorithm.RAM`.
        path: ``<name>.zip``, or ``<name>.json`` to leave SB3's file out.
        algo: see :func:`agents.registry.algorithm_of`; default the registered one with the class of ``model``.
        architecture: name of the architecture; default the registered one with the class of its extractor.

    Raises:
        ConfigurationError: if no algorithm of this class is registered, or a setting of the policy is no JSON.
    """
    path, names = Path(path), model._get_torch_save_params()
    algo = algo or _name_of(ALGORITHMS, "model", type(model)) or _name_of(BY_ITSELF, "model", type(model))
    if algo is None:
        raise ConfigurationError(f"no algorithm with the class {type(model).__name__} is registered; give its name.")
    policy_kwargs = dict(model.policy_kwargs)
    extractor = policy_kwargs.get("features_extractor_class")
    architecture = (architecture or _name_of(ARCHITECTURES, None, extractor)) if extractor is not None else None
    if architecture is not None and ARCHITECTURES[architecture] is extractor:
        del policy_kwargs["features_extractor_class"]
    tensors: dict[str, torch.Tensor] = {}
    optimisers: dict[str, Any] = {}
    for name, state in model.get_parameters().items():
        if "param_groups" not in state:
            tensors |= {f"{name}/{key}": value for key, value in state.items()}
            continue
        entries = {f"{k}/{key}": value for k, entry in state["state"].items() for key, value in entry.items()}
        tensors |= {f"{name}/{key}": value for key, value in entries.items() if torch.is_tensor(value)}
        others = {key: value for key, value in entries.items() if not torch.is_tensor(value)}
        optimisers[name] = {"groups": to_json(state["param_groups"]), "others": to_json(others)}
    variables = {name: recursive_getattr(model, name) for name in names[1]}
    tensors |= {name: value.detach() for name, value in variables.items() if value is not None}
    excluded = {*model._excluded_save_params(), *ELSEWHERE}
    plain = {name: value for name, value in vars(model).items() if name not in excluded and type(value) in SCALARS}
    card: dict[str, Any] = {
        "format": FORMAT,
        "algo": algo,
        "class": type(model).__name__,
        "architecture": architecture,
        "observation_space": space_to_json(model.observation_space),
        "action_space": space_to_json(model.action_space),
        "policy_kwargs": to_json(policy_kwargs),
        "attributes": plain,
        "episodes": {name: to_json(list(getattr(model, name) or ())) for name in EPISODES},
        "optimisers": optimisers,
    }
    if path.suffix == ".zip":
        with whole_file(path) as temporary:
            model.save(temporary)
            card["zip"] = digest(temporary.read_bytes())
    with whole_file(path.with_suffix(".safetensors")) as temporary:
        # copies: networks may share an encoder, and two names for the same memory are refused
        save_file({name: value.cpu().clone().contiguous() for name, value in tensors.items()}, temporary)
        card["weights"] = digest(temporary.read_bytes())
    write_json(path.with_suffix(".json"), card)


def load_agent(
    path: str | Path, *, trust: bool = False, algo: str | None = None, device: Any = "cpu"
) -> "BaseAlgorithm":
    """Returns an agent that acts, as :func:`save_agent` wrote it. To train it further, resume its run.

    No code is run but this package's, and what has been imported already, unless the file is trusted. Learning rates
    and clip ranges that are functions are not in the files; those of the class stand in.

    Args:
        path: folder of a run, or ``<name>.json``, ``<name>.safetensors`` or ``<name>.zip`` in any; or an environment id
            that an agent comes with the package for, like ``"GlimpseBirds-v0"``, where there is no such file.
        trust: whether to read an SB3 zip that has no card beside it, and to import or run what the file names as its
            algorithm or architecture. Both can do anything that you can do.
        algo: algorithm of a zip without ``config.json`` of its run beside it.
        device: PyTorch's.

    Raises:
        UntrustedFileError: if that needs code of others, and ``trust`` is False.
        ArtifactError: if there is no agent, or its files are damaged or do not belong to each other.
    """
    shipped = None if Path(path).exists() else shipped_agent(str(path))
    path = shipped or Path(path)
    path = path / "model.json" if path.is_dir() else path
    if not path.with_suffix(".json").is_file():
        return _load_zip(path.with_suffix(".zip"), algo, trust, device)
    card, tensors = read_agent(path)
    try:
        _refuse_code(path, trust, card["algo"], card["architecture"])
        spec = _algorithm(card["algo"])
        policy_kwargs = from_json(card["policy_kwargs"])
        if card["architecture"] is not None:
            policy_kwargs["features_extractor_class"] = ARCHITECTURES[card["architecture"]]
        model: Any = spec.model(spec.policy, None, device=device, _init_setup_model=False)  # type: ignore[call-arg]
        _set_attributes(model, card)
        model.n_envs, model.policy_kwargs = 1, policy_kwargs
        model.observation_space = space_from_json(card["observation_space"])
        model.action_space = space_from_json(card["action_space"])
        model._setup_model()
    except UntrustedFileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
        raise ArtifactError(f"{path.with_suffix('.json')} is no card of an agent ({error!r}).") from error
    return _restored(model, path, card, tensors)


def restore_agent(model: "BaseAlgorithm", path: str | Path) -> None:
    """Gives a new model, made with the same settings, the weights, the optimiser's state and the counters of an agent
    that :func:`save_agent` wrote, so that it trains on as that would have.

    Raises:
        ArtifactError: if there is no agent, or its files are damaged or of another model.
    """
    card, tensors = read_agent(Path(path))
    try:
        _set_attributes(model, card)
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is no card of an agent ({error!r}).") from error
    _restored(model, Path(path), card, tensors)


def copy_agent(path: str | Path, out: Path) -> dict[str, Any]:
    """Writes the agent at ``path`` to ``out`` (.json, with .safetensors beside it) without SB3's zip and the state of
    its optimisers, and with weights that have several names once: it acts as before.

    Args:
        path: folder of a run, or ``<name>.json`` or ``<name>.safetensors`` in any.
        out: ``<name>.json``.

    Returns:
        Its card.

    Raises:
        ArtifactError: if there is no agent, or its files are damaged or do not belong to each other.
    """
    path = Path(path)
    card, tensors = read_agent(path / "model.json" if path.is_dir() else path.with_suffix(".json"))
    try:
        optimisers = tuple(f"{name}/" for name in card["optimisers"])
        card["optimisers"] = {name: {**one, "others": {}} for name, one in card["optimisers"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is no card of an agent ({error!r}).") from error
    card["episodes"] = {name: [] for name in EPISODES}
    card.pop("zip", None)
    kept: dict[str, torch.Tensor] = {}
    first: dict[str, str] = {}
    card["same"] = {}
    for name, value in tensors.items():
        if not name.startswith(optimisers):
            other = first.setdefault(digest(value.numpy()), name)
            if other == name:
                kept[name] = value
            else:
                card["same"][name] = other
    with whole_file(out.with_suffix(".safetensors")) as temporary:
        save_file(kept, temporary)
        card["weights"] = digest(temporary.read_bytes())
    write_json(out, card)
    return card


def read_agent(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Returns card and tensors of the agent at ``path``, a file of it; makes no model.

    Raises:
        ArtifactError: unless they can be read and belong to each other.
    """
    place, weights = path.with_suffix(".json"), path.with_suffix(".safetensors")
    try:
        card = read_json(place)
    except (OSError, ArtifactError) as error:
        raise ArtifactError(f"{path} is no agent ({str(error).rstrip('.')}); train the agent again.") from error
    try:
        if card["format"] != FORMAT:
            raise ArtifactError(f"{place} has format {card['format']}, not {FORMAT}; train the agent again.")
        for kind, file in (("weights", weights), ("zip", path)):
            refuse_special(file)
            if (kind == "weights" or path.suffix == ".zip") and card.get(kind) != digest(file.read_bytes()):
                raise ArtifactError(f"{file} is not the file that {place.name} was written for; train the agent again.")
        tensors = load_file(weights)
        return card, tensors | {name: tensors[other] for name, other in card.get("same", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{path} is no agent ({type(error).__name__}: {error}).") from error


def _refuse_code(path: Path, trust: bool, *names: str | None) -> None:
    for name in names:
        if name is not None and not trust and runs_code(name):
            raise UntrustedFileError(
                f"{path} names {name}, and looking that up runs its code; import it first, or pass trust=True "
                "(--trust) if you trust where the agent is from."
            )


def _load_zip(path: Path, algo: str | None, trust: bool, device: Any) -> "BaseAlgorithm":
    """Returns an agent of an SB3 zip; see :func:`load_agent`."""
    if not path.is_file():
        raise ArtifactError(
            f"{path.with_suffix('')} is no agent: there is no such file, and agents come with the package for "
            f"{', '.join(shipped_ids())}."
        )
    if not trust:
        raise UntrustedFileError(
            f"{path} has no card {path.stem}.json beside it, and reading an SB3 zip runs the code in it; pass "
            "trust=True (--trust) if you trust where it is from."
        )
    try:
        if algo is None:
            algo = read_json(path.parent / "config.json")["args"]["algo"]
        return _algorithm(algo).model.load(path, device=device)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read ({type(error).__name__}: {error}).") from error


def _set_attributes(model: Any, card: dict[str, Any]) -> None:
    """Sets the numbers and texts of a card where the model has such, and the latest episodes."""
    own = vars(model)
    for name, value in card["attributes"].items():
        if name in own and name not in ELSEWHERE and type(own[name]) in SCALARS and type(value) in SCALARS:
            setattr(model, name, value)
    for name in EPISODES:
        setattr(model, name, deque(card["episodes"][name], maxlen=model._stats_window_size))


def _restored(model: Any, path: Path, card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """Returns a model with the state that the card and the tensors of an agent hold."""
    names, variables = model._get_torch_save_params()
    try:
        states: dict[str, Any] = {}
        for name in names:
            within = {
                key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")
            }
            if name not in card["optimisers"]:
                states[name] = within
                continue
            entries: dict[int, dict[str, Any]] = {}
            for key, value in {**within, **card["optimisers"][name]["others"]}.items():
                number, _, entry = key.partition("/")
                entries.setdefault(int(number), {})[entry] = value
            groups = [
                {
                    key: tuple(value) if key != "params" and isinstance(value, list) else value
                    for key, value in one.items()
                }
                for one in card["optimisers"][name]["groups"]
            ]  # JSON has no tuples, which the settings are
            states[name] = {"state": entries, "param_groups": groups}
        model.set_parameters(states, exact_match=True, device=model.device)
        for name in variables:
            if name in tensors:
                recursive_setattr(model, f"{name}.data", tensors[name].to(model.device))
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} does not fit its model ({type(error).__name__}: {error}).") from error
    return model


def _algorithm(name: str) -> Algorithm:
    return BY_ITSELF[name] if name in BY_ITSELF else algorithm_of(name)


def _name_of(registry: "Registry[Any]", attribute: str | None, wanted: Any) -> str | None:
    """Returns the name of the entry that is ``wanted``, or has it as an attribute; None where there is none."""
    entries = ((name, registry[name]) for name in registry)
    return next(
        (name for name, entry in entries if (getattr(entry, attribute) if attribute else entry) is wanted), None
    )
