"""Memory that a piece of work needs."""

import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Memory:
    """Peak resident memory of this process while it lasts, read off /proc every few milliseconds."""

    peak: dict[str, float] = field(default_factory=dict)
    """Megabytes: ``own`` is what the process allocated (RssAnon); ``total`` also counts pages of mapped files (VmRSS),
    which the system takes back when it needs them. Empty where there is no /proc."""

    def __enter__(self) -> "Memory":
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        status = Path("/proc/self/status")
        while status.is_file():
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            for name, key in (("own", "RssAnon"), ("total", "VmRSS")):
                self.peak[name] = max(self.peak.get(name, 0.0), int(lines[key].split()[0]) / 1000)
            if self._ended.wait(0.005):
                break
