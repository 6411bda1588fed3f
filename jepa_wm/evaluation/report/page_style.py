"""How the report page looks, for light and for dark readers."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --sheet: #f6f7f9;
  --ink: #1c1f26; --faint: #667085; --line: #e4e7ec; --plan: #4f46e5;
  --reached: #0d9488; --missed: #e8590c; }
@media (prefers-color-scheme: dark) { :root { --paper: #171a21;
  --sheet: #0f1116; --ink: #e6e8ec; --faint: #98a2b3; --line: #2b303b;
  --plan: #8b8cf8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--sheet); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans',
  sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1040px; margin: 0 auto; padding: 48px 20px 64px; }
.eyebrow { color: var(--faint); font-size: 14px; margin: 0; }
h1 { font-size: 34px; line-height: 1.2; letter-spacing: -0.02em;
  margin: 4px 0 6px; text-wrap: balance; }
h2 { font-size: 17px; margin: 0 0 2px; letter-spacing: -0.01em; }
p { margin: 0 0 12px; } .note { color: var(--faint); font-size: 14px;
  max-width: 72ch; }
section { background: var(--paper); border: 1px solid var(--line);
  border-radius: 10px; padding: 22px 24px; margin-top: 18px;
  overflow-x: auto; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 18px;
  margin-top: 18px; } .two section { margin: 0; }
@media (max-width: 760px) { .two { grid-template-columns: 1fr; } }
img, svg { display: block; width: 100%; height: auto; border-radius: 6px; }
.gif { width: auto; max-width: 100%; margin: 0 auto; }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
th { text-align: right; font-weight: 500; color: var(--faint); font-size: 13px;
  padding: 6px 0 6px 13px; white-space: nowrap; }
td { text-align: right; padding: 7px 0 7px 13px; white-space: nowrap;
  border-top: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px;
  margin: 8px 0 0; font-size: 14px; } dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: 13.5px/1.5 ui-monospace, 'SF Mono', Menlo, Consolas,
  'DejaVu Sans Mono', monospace; }
pre { margin: 8px 0 0; padding: 12px 14px; background: var(--sheet);
  border-radius: 6px; overflow-x: auto; }
summary { cursor: pointer; font-weight: 600; font-size: 17px; }
details table, dl + table, dl + details, p + picture { margin-top: 12px; }
section > details > summary { font-size: 15px; }
.videos { display: grid; grid-template-columns: 1fr; gap: 14px; }
.videos figure { margin: 0; } figcaption { font-size: 14px; margin: 0 0 4px; }
details.run { background: var(--paper); border: 1px solid var(--line);
  border-radius: 10px; padding: 16px 24px; margin-top: 12px; }
details.run section, details.run .two { margin-top: 14px; }
.reading { text-align: left; white-space: normal; }
.same { color: var(--faint); }
.good { color: var(--reached); } .bad { color: var(--missed); }
.key { display: inline-block; width: 18px; height: 3px; border-radius: 2px;
  vertical-align: 4px; margin-right: 5px; }
svg text { font: 13px system-ui, 'DejaVu Sans', sans-serif; fill: var(--ink); }
svg text.faint { fill: var(--faint); }
svg text.value { font-size: 22px; font-weight: 700; fill: var(--plan); }
.axis { stroke: var(--line); stroke-width: 6; stroke-linecap: round; }
.mark { stroke: var(--faint); stroke-width: 2; }
.interval { stroke: var(--plan); stroke-width: 6; opacity: 0.45;
  stroke-linecap: round; }
.dot { fill: var(--plan); stroke: var(--paper); stroke-width: 2.5; }
.seed { fill: var(--paper); stroke: var(--plan); stroke-width: 1.5; }
.grid { stroke: var(--line); }
.curve { fill: none; stroke: var(--plan); stroke-width: 2.5;
  stroke-linejoin: round; }
.area { fill: var(--plan); opacity: 0.1; }
.map { --missed: #e8590c; --reached: #0d9488; }
.ground { fill: var(--sheet); }
.map g line { stroke: currentColor; stroke-width: 1.8; }
.map g .aim { stroke: transparent; stroke-width: 12; }
.map circle { fill: #fff; stroke: currentColor; stroke-width: 1.8; }
.map .trail { fill: none; stroke: currentColor; stroke-width: 3; opacity: 0;
  stroke-linejoin: round; }
.map .zone { fill: var(--missed); fill-opacity: 0.25; stroke: var(--missed); }
.map .zone.around { fill: none; }
.map .moved { fill: none; stroke: currentColor; stroke-width: 2;
  stroke-dasharray: 4 3; opacity: 0; } .map g:hover .moved { opacity: 1; }
.map .reached { color: var(--reached); } .map .missed { color: var(--missed); }
.map marker path { fill: currentColor; }
.map.crowded g.reached { opacity: 0.55; }
.map:hover g { opacity: 0.18; } .map g:hover { opacity: 1; }
.map g:hover .trail { opacity: 0.45; }
footer { color: var(--faint); font-size: 13px; margin-top: 24px; }
"""
