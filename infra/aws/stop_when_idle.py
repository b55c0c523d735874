"""Stops Ray on the head once no job has run for a while; the machine, left without Ray, switches itself off.

    python -m infra.aws.stop_when_idle --minutes 60

Runs on the head beside Ray. Whatever `ray job list` shows as pending or running, drivers that connected by
themselves included, counts as work. Ends when Ray is stopped, by this or by others.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

DASHBOARD = "http://127.0.0.1:8265"
SILENT_MINUTES = 5
"""A dashboard that has not answered for so long is gone, and Ray with it."""


def wait_until_idle(is_busy: Callable[[], bool], sleep_s: Callable[[float], None], *, minutes: int) -> bool:
    """Ask every minute. True when nothing has run for `minutes`, False when there is nobody left to ask."""
    idle_minutes = silent_minutes = 0
    while idle_minutes < minutes:
        sleep_s(60.0)
        try:
            idle_minutes = 0 if is_busy() else idle_minutes + 1
            silent_minutes = 0
        except (OSError, RuntimeError):  # no connection, or an answer that is none
            silent_minutes += 1
            if silent_minutes >= SILENT_MINUTES:
                return False
    return True


def has_work() -> bool:
    """Whether any job of this cluster is pending or running."""
    from ray.job_submission import JobSubmissionClient

    return any(not job.status.is_terminal() for job in JobSubmissionClient(DASHBOARD).list_jobs())


def main() -> None:
    """Wait, then stop Ray on this machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=int, required=True, help="stop after so long without a job")
    minutes = parser.parse_args().minutes
    if wait_until_idle(has_work, time.sleep, minutes=minutes):
        sys.stdout.write(f"No job for {minutes} minutes: stopping Ray\n")
        subprocess.run(["ray", "stop"], check=True)


if __name__ == "__main__":
    main()
