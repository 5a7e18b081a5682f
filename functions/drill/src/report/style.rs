//! The page's style. Every pair of text and ground has a contrast of 4.5 or more, in both
//! schemes; the end-to-end test measures it.

pub(super) const CSS: &str = "
:root {
  --ground: #f6f7f9; --paper: #ffffff; --ink: #16202c; --dim: #4c5a6b; --line: #d5dbe3;
  --good: #0b6b3a; --bad: #a8201a; --open: #7a4b00; --calm: #2456a6;
  --good-soft: #d3eedd; --bad-soft: #fbdcd9; --open-soft: #fdeccb; --calm-soft: #dbe6f8;
  --on: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #10151c; --paper: #19212b; --ink: #e8edf3; --dim: #a9b6c5; --line: #33404f;
    --good: #6fd69b; --bad: #ff9c94; --open: #f2c063; --calm: #8fb6f5;
    --good-soft: #123a26; --bad-soft: #4a1b18; --open-soft: #43310c; --calm-soft: #1b2f4f;
    --on: #10151c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.45 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
header, main, footer { max-width: 46rem; margin: 0 auto; padding: 0 1rem; }
header { padding: 1.25rem 1rem 1.1rem; border-radius: 0 0 1rem 1rem; color: var(--on); }
header.good { background: var(--good); } header.bad { background: var(--bad); }
header.open { background: var(--open); }
header p { margin: 0; } header .says { font-size: 1.02rem; }
header .which { margin-top: .7rem; font-size: .88rem; }
h1 { font-size: 2.1rem; line-height: 1.15; margin: .15rem 0 .35rem; display: flex; align-items: center; gap: .5rem; }
.mark { width: 2.1rem; height: 2.1rem; flex: none; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: .8rem;
  padding: .9rem; margin: .9rem 0; }
.code { font-family: ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: .85em;
  overflow-wrap: anywhere; }
.findings { border-left: .35rem solid var(--bad); } .missed { border-left: .35rem solid var(--open); }
.findings ol { list-style: none; }
ol, ul { margin: 0; padding-left: 1.1rem; } .findings ol { padding: 0; }
li { overflow-wrap: anywhere; } li + li { margin-top: .6rem; }
.findings li .code { color: var(--bad); font-weight: 600; }
.findings p { margin: .15rem 0 0; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: 1fr 1fr; gap: .9rem .6rem; }
.figures strong { display: block; font-size: 1.35rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.figures span { color: var(--dim); font-size: .85rem; }
@media (min-width: 34rem) { .figures { grid-template-columns: repeat(4, 1fr); } }
svg.picture { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
svg text.dim { fill: var(--dim); font-size: 11px; } svg text.end { text-anchor: end; } svg text.mid { text-anchor: middle; }
svg .track { fill: var(--line); } svg .grid { stroke: var(--line); stroke-width: 1; }
svg .calm { fill: var(--calm); } svg .good { fill: var(--good); } svg .bad { fill: var(--bad); } svg .open { fill: var(--open); }
svg .limit { stroke: var(--ink); stroke-width: 2; }
svg text.late { fill: var(--bad); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.4rem, 1fr)); gap: .4rem; }
.tile { display: flex; gap: .4rem; align-items: center; border-radius: .5rem; padding: .42rem .5rem; font-size: .8rem;
  line-height: 1.2; min-height: 2.7rem; overflow-wrap: anywhere; color: var(--ink); text-decoration: none; }
.tile svg { width: 1.1rem; height: 1.1rem; flex: none; }
.tile.passed { background: var(--good-soft); } .tile.failed { background: var(--bad-soft); }
.tile.inconclusive { background: var(--open-soft); } .tile.note { background: var(--calm-soft); }
.passed svg { color: var(--good); } .failed svg { color: var(--bad); } .inconclusive svg { color: var(--open); } .note svg { color: var(--calm); }
.checks { padding-left: 0; list-style: none; }
.checks > li { border-top: 1px solid var(--line); padding: .5rem 0; margin: 0; display: flex; gap: .6rem; }
.checks > li:first-child { border-top: 0; padding-top: 0; }
.checks svg { width: 1.25rem; height: 1.25rem; flex: none; margin-top: .1rem; }
.checks div { min-width: 0; flex: 1; }
.checks .name { font-weight: 600; } .checks .sum { color: var(--dim); font-size: .9rem; overflow-wrap: anywhere; }
.checks .meta { float: right; color: var(--dim); font-size: .78rem; padding-left: .5rem; }
.remedy { font-size: .9rem; margin: .3rem 0 0; }
details { margin-top: .35rem; font-size: .88rem; } summary { cursor: pointer; color: var(--calm); padding: .2rem 0; }
pre { margin: .3rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .78rem; background: var(--ground);
  border-radius: .4rem; padding: .5rem; }
dl { margin: 0; display: grid; grid-template-columns: minmax(6rem, auto) 1fr; gap: .35rem .8rem; font-size: .88rem; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.promises > div { padding: .45rem 0; border-top: 1px solid var(--line); } .promises > div:first-of-type { border-top: 0; padding-top: 0; }
.promises b { display: block; } .promises span { color: var(--dim); font-size: .9rem; } .promises em { font-style: normal; font-weight: 600; float: right; padding-left: .6rem; }
.promises em.good { color: var(--good); } .promises em.bad { color: var(--bad); } .promises em.none { color: var(--dim); }
footer { color: var(--dim); font-size: .8rem; padding-bottom: 1.5rem; overflow-wrap: anywhere; }
@media print { body { background: #fff; } section { break-inside: avoid; } details > * { display: block; } }
";
