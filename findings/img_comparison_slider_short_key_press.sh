#!/usr/bin/env bash
# img-comparison-slider 8.0.7 (npm; the custom element that compares two pictures by a divider) moves by the arrow keys
# for as long as one is held: presses as short as those that assistive tools send (down and up at once) move nothing,
# however many. It tells assistive tools neither a role nor a value: they see three pictures.
# Why it matters: the element takes the focus and listens to keys, so a page that uses it counts as operable by keyboard,
# and is not for those who need it most. facelight's page gives it the role of a slider, a value, and a step for each
# press.
# Needs Chromium (Debian's package `chromium`). Ends with status 0 while that is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && npm pack --silent img-comparison-slider@8.0.7 >/dev/null && tar xzf img-comparison-slider-8.0.7.tgz)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check playwright==1.65.2
cat >"$folder/page.py" <<'PYTHON'
import os
import shutil
import sys
import time

from playwright.sync_api import sync_playwright

PICTURE = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='200' height='100'><rect width='200' height='100' fill='%s'/></svg>"
HTML = f"""<img-comparison-slider tabindex="0"><img slot="first" src="{PICTURE % 'red'}" alt="before">
<img slot="second" src="{PICTURE % 'blue'}" alt="after"></img-comparison-slider>"""

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox"] if os.geteuid() == 0 else []
    )
    page = browser.new_page()
    page.set_content(HTML)
    page.add_script_tag(path=sys.argv[1])
    slider = page.locator("img-comparison-slider.rendered")
    slider.wait_for()
    value = "(slider) => Number(slider.value)"
    slider.focus()
    before = slider.evaluate(value)
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    time.sleep(0.5)
    pressed = slider.evaluate(value)
    page.keyboard.down("ArrowRight")
    time.sleep(1)
    page.keyboard.up("ArrowRight")
    held = slider.evaluate(value)
    tree = page.locator("body").aria_snapshot()
    print(f"Chromium {browser.version}: {before}, after ten short presses {pressed:.1f}, after a second's {held:.1f}")
    print(tree)
    browser.close()
so = before == 50 and abs(pressed - before) < 1 and held > pressed + 5 and "slider" not in tree
print("as described" if so else "it behaves in another way now")
sys.exit(not so)
PYTHON
"$folder/venv/bin/python" "$folder/page.py" "$folder/package/dist/index.js"
