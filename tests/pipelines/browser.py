"""A headless browser for tests of pages."""

import shutil
import subprocess

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"no browser here ({', '.join(BROWSERS)})")


def open_in_browser(page, folder, *, width_px=1200):
    """The document after a second of the browser's time, and the browser's log."""
    path = folder / "page.html"
    path.write_text(page)
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}", f"--window-size={width_px},900",
            "--virtual-time-budget=1000", "--dump-dom", path.as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr
