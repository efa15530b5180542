"""Headless Chromium, driven by its own chromedriver: W3C WebDriver, which is HTTP alone."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'  # by the standard, the key of an element's name
PATIENCE = 30.0  # seconds
NO_PROXY = build_opener(ProxyHandler({}))
PROGRAMS = ('chromium', 'chromedriver')
# No sandbox: it needs rights that root in a container has not. No name leads anywhere but home.
FLAGS = (
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
    '--no-proxy-server', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
)  # fmt: skip


def missing() -> str:
    """Why there is no browser here; empty where there is one."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f'{" and ".join(absent)} not installed (Debian: chromium, chromium-driver)' * bool(
        absent
    )


class Browser:
    """A page that is looked at; elements are found by CSS selectors.

    Args:
        session: Address of the driver's session.
    """

    def __init__(self, session: str) -> None:
        self.session = session

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """A command of the standard."""
        return ask(method, f'{self.session}/{path}', body)

    def open(self, address: str) -> None:
        self.ask('POST', 'url', url=address)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function's body in JavaScript returns."""
        return self.ask('POST', 'execute/sync', script=script, args=arguments)

    def find(self, selector: str, text: str = '') -> str:
        """The first element that is seen and has the text; waits until there is one."""
        script = (
            'return [...document.querySelectorAll(arguments[0])].find('
            'e => e.checkVisibility() && e.textContent.includes(arguments[1]))'
        )
        found = wait(lambda: self.run(script, selector, text), f'{selector} with {text!r}')
        return found[ELEMENT]

    def click(self, selector: str, text: str = '') -> None:
        element = self.find(selector, text)
        self.run('arguments[0].scrollIntoView({block: "center"})', {ELEMENT: element})
        self.ask('POST', f'element/{element}/click')

    def type(self, selector: str, text: str) -> None:
        """Put text in the place of what an input has, and leave it."""
        element = self.find(selector)
        self.ask('POST', f'element/{element}/clear')
        self.ask('POST', f'element/{element}/value', text=f'{text}\ue004')  # Tab

    def upload(self, file: str | Path) -> None:
        """Put a file into the file input, which is hidden itself, of the tab that is seen."""
        script = (
            'const tab = [...document.querySelectorAll("[role=tabpanel]")]'
            '.find(e => e.checkVisibility()); return tab && tab.querySelector("input[type=file]")'
        )
        element = wait(lambda: self.run(script), 'a file input')[ELEMENT]
        self.ask('POST', f'element/{element}/value', text=str(file))

    def text(self, selector: str) -> str:
        """Of the first element that is seen."""
        return self.ask('GET', f'element/{self.find(selector)}/text')

    def size(self, width: int, height: int) -> None:
        """Of the page in pixels, also narrower than a window can be."""
        metrics = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': width < 600}
        command = 'Emulation.setDeviceMetricsOverride'
        self.ask('POST', 'goog/cdp/execute', cmd=command, params=metrics)

    def screenshot(self) -> bytes:
        """What is seen: a PNG file."""
        return base64.b64decode(self.ask('GET', 'screenshot'))

    def requested(self) -> list[str]:
        """Addresses that were asked for since the last call, but for those within the page."""
        entries = self.ask('POST', 'se/log', type='performance')
        messages = [json.loads(entry['message'])['message'] for entry in entries]
        asked = [m['params'] for m in messages if m['method'] == 'Network.requestWillBeSent']
        addresses = [one['request']['url'] for one in asked]
        return [one for one in addresses if not one.startswith(('data:', 'blob:'))]

    def errors(self) -> list[str]:
        """What the console says since the last call, warnings left out."""
        entries = self.ask('POST', 'se/log', type='browser')
        return [entry['message'] for entry in entries if entry['level'] == 'SEVERE']


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, which ends with the block."""
    driver = subprocess.Popen(
        ['chromedriver', '--port=0'],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        started = (re.search(r'started successfully on port (\d+)', line) for line in driver.stdout)
        port = next(match[1] for match in started if match)
        capabilities = {
            'goog:chromeOptions': {'args': FLAGS, 'binary': shutil.which('chromium')},
            'goog:loggingPrefs': {'performance': 'ALL', 'browser': 'ALL'},
        }
        root = f'http://127.0.0.1:{port}/session'
        made = ask('POST', root, {'capabilities': {'alwaysMatch': capabilities}})
        session = f'{root}/{made["sessionId"]}'
        try:
            yield Browser(session)
        finally:
            ask('DELETE', session)
    finally:
        driver.terminate()
        driver.wait(PATIENCE)
        driver.stdout.close()


def ask(method: str, address: str, body: dict | None = None) -> Any:
    """A driver's answer; its refusal is an error with its words."""
    data = json.dumps(body or {}).encode() if method == 'POST' else None
    headers = {'Content-Type': 'application/json'}
    request = Request(address, data, headers, method=method)
    try:
        with NO_PROXY.open(request, timeout=2 * PATIENCE) as reply:
            return json.load(reply)['value']
    except HTTPError as error:
        raise RuntimeError(json.load(error)['value']['message'].splitlines()[0]) from error


def wait(look: Callable[[], Any], what: str) -> Any:
    """What a look gives, once it gives something."""
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        if time.monotonic() > end:
            raise TimeoutError(f'{what}: not there after {PATIENCE:.0f} s')
        time.sleep(0.05)
    return found
