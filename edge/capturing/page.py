"""The page on which the live picture stands."""

from __future__ import annotations

import base64
import hashlib

__all__ = ["PAGE", "PAGE_POLICY"]

_STYLE = """
:root { color-scheme: dark; }
body { margin: 0; background: #14161a; color: #e6e6e6; font: 16px/1.45 system-ui, sans-serif; }
main { display: flex; flex-wrap: wrap; gap: 1.5rem; padding: 1rem; align-items: flex-start; }
img { flex: 3 1 32rem; max-width: 100%; min-width: 0; max-height: calc(100vh - 2rem); object-fit: contain; }
section { flex: 1 1 20rem; min-width: 0; }
h1 { font-size: 1rem; font-weight: 600; margin: 0 0 .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
dt { color: #9aa0a8; }
dd { margin: 0; overflow-wrap: anywhere; }
p { margin: .7rem 0 0; overflow-wrap: anywhere; }
#worries p { color: #ffc14d; }
#trouble { color: #ff6b6b; font-weight: 600; }
#prompt { font-weight: 600; }
#last { color: #9aa0a8; }
"""

# Text goes in as text: what a label or a camera is called must not become part of the page.
_SCRIPT = """
"use strict";
const at = (id) => document.getElementById(id);
const picture = at("picture");
let number = 0;
function again() { setTimeout(() => { picture.src = "/live.jpg?" + ++number; }, 150); }
picture.addEventListener("load", again);
picture.addEventListener("error", () => setTimeout(again, 850));
function lines(parent, tag, texts) {
  parent.replaceChildren(...texts.map((text) => {
    const line = document.createElement(tag);
    line.textContent = text;
    return line;
  }));
}
async function status() {
  try {
    const now = await (await fetch("/status.json")).json();
    at("figures").replaceChildren(...now.figures.flatMap(([name, value]) => {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      [dt.textContent, dd.textContent] = [name, value];
      return [dt, dd];
    }));
    lines(at("worries"), "p", now.worries);
    for (const id of ["prompt", "trouble", "last"]) at(id).textContent = now[id];
  } catch {
    at("trouble").textContent = "edge-capture does not answer: it has ended";
  }
  setTimeout(status, 300);
}
again();
status();
"""


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


PAGE_POLICY = (
    f"default-src 'none'; img-src 'self' data:; connect-src 'self'; script-src {_source(_SCRIPT)}; "
    f"style-src {_source(_STYLE)}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy: nothing runs and nothing is fetched but what stands here."""

PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>edge-capture</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<main>
<img id="picture" alt="what the camera sees">
<section>
<h1>edge-capture</h1>
<dl id="figures"></dl>
<div id="worries"></div>
<p id="trouble"></p>
<p id="prompt"></p>
<p id="last"></p>
</section>
</main>
<script>{_SCRIPT}</script>
</body>
</html>
""".encode()
