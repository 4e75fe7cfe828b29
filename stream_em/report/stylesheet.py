"""How the page looks: light or dark as its reader likes, on a phone, a screen or paper."""

_LIGHT = "--ink:#1c2530;--soft:#55616e;--line:#d5dbe1;--paper:#ffffff;--card:#f6f8fa;--warn:#fff4d6;"
_DARK = "--ink:#e8ecf0;--soft:#a3adb8;--line:#3a444f;--paper:#14191f;--card:#1c232b;--warn:#40350f;"

STYLESHEET = (
    f":root{{{_LIGHT}}}\n"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_DARK}}}}}\n"
    """\
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1.5rem clamp(0.8rem,3vw,2rem) 3rem;background:var(--paper);color:var(--ink);
  font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;overflow-wrap:break-word}
h1{font-size:1.7rem;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.4rem 0 0.8rem;padding-bottom:0.3rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 0.4rem}
.model,figcaption,caption,footer,dt{color:var(--soft)}
.model{margin:0.2rem 0 1.2rem}
.note{background:var(--warn);padding:0.6rem 0.9rem;border-radius:0.4rem;margin:0.6rem 0;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:0.8rem;margin:1.2rem 0}
.tiles div{background:var(--card);border-radius:0.5rem;padding:0.7rem 0.9rem}
.tiles dt{font-size:0.82rem}
.tiles dd{margin:0;font-size:1.45rem;font-variant-numeric:tabular-nums}
figure{margin:0 0 1.8rem}
figcaption{font-size:0.88rem;max-width:46rem;margin-top:0.4rem}
.pair,.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:0.8rem 1.6rem}
.panels.data{grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr))}
.panels.one{grid-template-columns:minmax(0,34rem)}
.panels.one.transitions{grid-template-columns:minmax(0,28rem)}
.panel{break-inside:avoid;min-width:0}
.picture{display:block;width:100%;height:auto;overflow:visible}
.picture *{stroke-linejoin:round;stroke-linecap:butt}
.picture text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif!important}
.scroll{overflow-x:auto;margin:0 0 1.6rem}
table{border-collapse:collapse;min-width:min(100%,26rem);font-size:0.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:0.4rem;font-size:0.88rem}
th,td{text-align:left;vertical-align:top;padding:0.25rem 1.2rem 0.25rem 0;border-bottom:1px solid var(--line)}
thead th,.facts th{color:var(--soft);font-weight:600;white-space:nowrap}
thead th{max-width:16rem;overflow:hidden;text-overflow:ellipsis}
.facts td{overflow-wrap:anywhere}
.n{text-align:right;white-space:nowrap}
.badge{display:inline-block;min-width:1.5rem;padding:0 0.35rem;border-radius:0.75rem;text-align:center;
  font-size:0.8rem;line-height:1.5rem;-webkit-print-color-adjust:exact;print-color-adjust:exact}
footer{font-size:0.82rem;margin-top:2.4rem;overflow-wrap:anywhere}
@media print{body{max-width:none;padding:0;font-size:0.85rem}figure,tr{break-inside:avoid}h2,h3{break-after:avoid}
  .scroll{overflow:visible}.picture{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
)
