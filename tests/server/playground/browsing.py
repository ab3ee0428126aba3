"""A real browser for tests: Debian's Chromium, driven by selenium."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
PATIENCE = 60
"""Seconds that a page may take on a busy machine."""

T = TypeVar("T")


def start_browser(folder: Path) -> Browser:
    """A fresh browser whose downloads go to `folder`. Skips the test, or fails where a browser is demanded."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        missing = "no browser: apt-get install chromium chromium-driver"
        if os.environ.get("RAIN_BROWSER_TESTS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    return Browser(webdriver.Chrome(options=options, service=Service(driver)))


class Browser:
    """What the tests do with a page."""

    def __init__(self, driver: Any):
        self.driver = driver

    def open(self, address: str) -> None:
        self.driver.get(address)

    def id(self, name: str) -> Any:
        """The element with this id."""
        return self.driver.find_element("id", name)

    def all(self, selector: str) -> list[Any]:
        """The elements of a CSS selector."""
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        # In one call: the page may draw anew between finding and asking.
        script = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)"
        return self.driver.execute_script(script, selector)

    def seek(self, position: int) -> None:
        """Move the scrubber."""
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        self.driver.execute_script(script, self.id("scrubber"), position)

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def emulate(self, **features: str) -> None:
        """Set media features, such as prefers_color_scheme="dark"."""
        pairs = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": pairs})

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def await_script(self, script: str, *arguments: Any) -> Any:
        """The value that an asynchronous function body gives in the page."""
        call = f"const [...given] = arguments; const done = given.pop(); (async () => {{ {script} }})()"
        return self.driver.execute_async_script(
            f"{call}.then(done, (error) => done(String(error)))", *arguments
        )

    def until(self, condition: Callable[[], T]) -> T:
        """Wait until the condition holds; its value."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition())

    def complaints(self) -> list[str]:
        """What the console holds of warnings and errors since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "DEBUG"]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]
