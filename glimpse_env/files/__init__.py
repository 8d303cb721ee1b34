"""Files written whole or not at all, with room on the disk for them; the cache, and locks between processes."""

from glimpse_env.files.arrays import array_is_whole, load_array, new_array, new_arrays, read_npz, write_npz
from glimpse_env.files.cache import kept, place_for
from glimpse_env.files.content import card_path, digest, file_digest, read_json, refuse_special, write_json
from glimpse_env.files.locks import only_process
from glimpse_env.files.storage import cache_folder
from glimpse_env.files.whole import check_writable, temporary_folder, whole_file, whole_folder

__all__ = [
    "array_is_whole",
    "cache_folder",
    "card_path",
    "check_writable",
    "digest",
    "file_digest",
    "kept",
    "load_array",
    "new_array",
    "new_arrays",
    "only_process",
    "place_for",
    "read_json",
    "read_npz",
    "refuse_special",
    "temporary_folder",
    "whole_file",
    "whole_folder",
    "write_json",
    "write_npz",
]
