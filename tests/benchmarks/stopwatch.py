"""Seconds between one event and the next."""

import time


class Stopwatch:
    """Laps since it was made."""

    def __init__(self) -> None:
        self.laps_s: list[float] = []
        self._begun_s = time.perf_counter()

    def lap(self) -> None:
        """Note the seconds since the last lap."""
        now_s = time.perf_counter()
        self.laps_s.append(now_s - self._begun_s)
        self._begun_s = now_s
