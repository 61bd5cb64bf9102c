"""A real browser that looks at the live page: `python driver.py BROWSER URL FOLDER SCENE [TOKEN]`, in an environment with playwright.

Each scene is looked at on a phone and on a desktop, light and dark. It writes a picture of each into the folder, and prints as JSON what
axe-core finds, what the console says, and what is wider than the window.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

WAIT_MS = 120_000
DEVICES = {"phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True},
           "desktop": {"viewport": {"width": 1360, "height": 900}}}  # fmt: skip
WIDE = """() => [...document.querySelectorAll('body *')].filter((each) => !each.closest('.scroll') && !each.closest('[hidden]')
    && each.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    || each.matches('.scroll') && each.querySelector('table') && each.scrollWidth > each.clientWidth + 1)
    .map((each) => each.tagName + '#' + each.id)"""
CUT = """() => [...document.querySelectorAll('button, dd, h1, h2, th, .status')].filter((each) => each.offsetParent
    && each.scrollWidth > each.clientWidth + 1).map((each) => each.tagName + '#' + each.id + ' ' + each.textContent)"""


IN_ORDER = """(caption) => {
    const text = caption.lastChild, range = document.createRange();
    const at = (place) => { range.setStart(text, place); range.setEnd(text, place + 1); return range.getBoundingClientRect(); };
    const first = at(3), last = at(text.length - 1);
    return first.bottom <= last.top || first.left < last.left; }"""


def status(page: Page, text: str) -> None:
    expect(page.locator("#status")).to_contain_text(text)


def shown(page: Page) -> None:
    """The picture is there and decoded."""
    expect(page.locator("#picture")).to_be_visible()
    page.locator("#picture").evaluate("image => image.decode()")


def nothing(page: Page) -> None:
    status(page, "Running")
    expect(page.locator("#no-picture")).to_have_text("No picture yet.")


def one(page: Page) -> None:
    shown(page)
    expect(page.locator("#strip li")).to_have_count(1)
    expect(page.locator("#detections tbody tr").first).to_contain_text("person")


def many(page: Page) -> None:
    shown(page)
    expect(page.locator("#strip li")).to_have_count(50)
    status(page, "Running")
    expect(page.locator("#rate rect").first).to_be_attached()


def away(page: Page) -> None:
    shown(page)
    expect(page.locator("#broker")).to_contain_text("Not connected")
    expect(page.locator("#broker")).to_contain_text("wait on the disk")


def paused(page: Page) -> None:
    """With the keyboard alone: the first stop of Tab is the button."""
    status(page, "Running")
    page.keyboard.press("Tab")
    expect(page.locator("#pause")).to_be_focused()
    page.keyboard.press("Enter")
    status(page, "Paused")
    expect(page.locator("#pause")).to_have_text("Resume")


def resume(page: Page) -> None:
    page.locator("#pause").click()
    status(page, "Running")


def hostile(page: Page) -> None:
    """What a file or a label is called stays text."""
    shown(page)
    expect(page.locator("#caption")).to_contain_text("<img src=x onerror=alert(1)>.")
    expect(page.locator("#detections tbody tr").first).to_contain_text("<script>alert(1)</script>")
    expect(page.locator("#strip li").first).to_contain_text("<script>alert(1)</script>")
    assert page.locator("#caption").evaluate(IN_ORDER)  # a mark in the name turns nothing round beside it
    assert page.locator("main script, main img:not([id]):not(#strip img)").count() == 0


def events(page: Page) -> None:
    """A person who comes, stays and goes."""
    shown(page)
    expect(page.locator("#events li").first).to_contain_text("person (track ")
    expect(page.locator("#events li").first).to_contain_text("still")
    expect(page.locator("#detections .track").first).to_have_text("Track")
    page.locator("#source").select_option("hall")
    expect(page.locator("#caption")).to_contain_text("hall")


def left(page: Page) -> None:
    expect(page.locator("#no-events")).to_be_visible()


def login(page: Page) -> None:
    expect(page).to_have_url(re.compile("/login$"))
    expect(page.locator("#token")).to_be_focused()
    page.keyboard.type("not the token at all")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_have_text("That is not the token.")


def log_in(page: Page, token: str) -> None:
    page.locator("#token").fill(token)
    page.keyboard.press("Enter")
    status(page, "Running")
    assert token not in page.url
    assert page.evaluate("document.cookie") == ""  # no script can read it
    page.locator("#leave button").click()
    expect(page).to_have_url(re.compile("/login$"))
    page.goto(page.url.replace("/login", "/"))
    expect(page).to_have_url(re.compile("/login$"))


def snapshot(page: Page) -> None:
    shown(page)
    page.locator("#snapshot").click()
    expect(page.locator("#taken")).to_be_visible()
    page.locator("#taken-picture").evaluate("image => image.decode()")


def switched(page: Page) -> None:
    page.keyboard.press("Escape")
    expect(page.locator("#taken")).to_be_hidden()
    name = page.locator("#models option:not(:checked)").first.inner_text()
    page.locator("#models").select_option(name)
    page.locator("#switch").click()
    expect(page.locator("#said")).to_have_text(f"The model is now {name}.")
    expect(page.locator("#model")).to_contain_text(name)


def gone(page: Page) -> None:
    """The daemon ends while somebody looks: the test ends it when it reads this line."""
    status(page, "Running")
    print("looking", flush=True)
    status(page, "No connection")


SCENES = {each.__name__: each for each in (nothing, one, many, away, paused, hostile, events, login, snapshot, gone)}
AFTER = {"paused": resume, "events": left, "snapshot": switched}


def main(program: str, url: str, folder: Path, scene: str, token: str = "") -> None:
    found = {}
    expect.set_options(timeout=WAIT_MS)
    looks = list(itertools.product(DEVICES, ("light", "dark")))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=WAIT_MS)
        for device, scheme in looks[-1:] if scene == "gone" else looks:
            context = browser.new_context(color_scheme=scheme, **DEVICES[device])
            context.set_default_timeout(WAIT_MS)
            page = context.new_page()
            said: list[str] = []
            page.on("console", lambda message, said=said: said.append(message.text) if message.type in {"error", "warning"} else None)
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.on("dialog", lambda dialog, said=said: said.append(dialog.message))
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(url)
            SCENES[scene](page)
            page.screenshot(path=folder / f"{scene}-{device}-{scheme}.png", full_page=scene != "snapshot")
            violations = Axe().run(page).response["violations"]
            found[f"{device}-{scheme}"] = {
                "axe": [f"{each['id']}: {node['html'][:160]}" for each in violations for node in each["nodes"]],
                "wide": page.evaluate(WIDE),
                "cut": page.evaluate(CUT),
                "strangers": [each for each in asked if not each.startswith((url.rstrip("/") + "/", "data:"))],
                # The browser's own word about the answer to a wrong token.
                "console": [each for each in said if not (scene == "login" and "status of 401" in each)],
            }
            if scene == "login":
                log_in(page, token)
            if scene in AFTER:
                AFTER[scene](page)
            context.close()
        browser.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
