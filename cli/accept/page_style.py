"""How the page looks: no more than is needed to read it on a telephone and on paper."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c62828; --open: #8a6d00; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; --open: #d9b03c; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: 0.5rem 0; }
h2 { font-size: 1.3rem; margin: 2rem 0 0.5rem; }
h3 { font-size: 1.05rem; margin: 0 0 0.6rem; }
section { border: 1px solid var(--line); border-radius: 0.5rem; padding: 1rem; margin: 1rem 0; break-inside: avoid; }
.banner { font-size: 1.25rem; font-weight: 600; padding: 0.7rem 1rem; border-left: 0.4rem solid; }
.passed { color: var(--good); }
.failed { color: var(--bad); }
.skipped { color: var(--open); }
.mark { display: inline-block; min-width: 6.2rem; font-weight: 600; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(11rem, 45%), 1fr)); gap: 0.7rem; }
value { margin: 0; font-size: 0.9rem; }
img { width: 100%; height: auto; display: block; border-radius: 0.3rem; }
.sent img { opacity: 0.9; outline: 2px dashed var(--line); outline-offset: -2px; }
figcaption { margin-top: 0.2rem; line-height: 1.3; }
section ul { list-style: none; padding: 0; margin: 0.8rem 0 0; }
section li { padding: 0.25rem 0; }
small { opacity: 0.75; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 1rem 0.25rem 0; border-bottom: 1px solid var(--line); }
"""
