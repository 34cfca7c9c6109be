"""Look and behaviour of a page: one style sheet, one short script; neither loads anything."""

CSS = """
:root{color-scheme:light dark;--ink:#1c1f23;--soft:#59616b;--paper:#fff;--card:#f5f6f8;--line:#d6dae0;--link:#0b5cad;
--flag:#b3122a;--mark:#fdf3d8}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a9b0b9;--paper:#15181c;--card:#1f242a;--line:#39414a;
--link:#7db8f5;--flag:#ff8c9a;--mark:#3a3213}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
header,main,footer{max-width:76rem;margin:0 auto;padding:0 1rem}
header{padding-top:1rem}
h1{font-size:1.55rem;line-height:1.25;margin:.4rem 0}
h2{font-size:1.25rem;margin:0 0 .6rem;padding-top:1.6rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.2rem 0 .3rem}
p{margin:.5rem 0;max-width:60rem}
ul{margin:.5rem 0;padding-left:1.3rem;max-width:60rem}
a{color:var(--link)}
.flag{display:inline-block;border:2px solid var(--flag);color:var(--flag);font-weight:700;border-radius:4px;
padding:0 .5rem;margin:0 .4rem .3rem 0}
.strong{font-weight:600;background:var(--mark);border-left:4px solid var(--flag);padding:.4rem .7rem}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.3rem .9rem;padding:0;margin:.6rem 0}
nav a{display:inline-block;padding:.2rem 0}
.scroll{overflow-x:auto;max-width:100%;border:1px solid var(--line);border-radius:6px;background:var(--paper)}
table{border-collapse:separate;border-spacing:0;font-size:.86rem;font-variant-numeric:tabular-nums;min-width:100%}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
td.number,th.number{text-align:right}
td.number{white-space:nowrap}
td{min-width:4.5rem}
.long{min-width:15rem}
thead th{background:var(--card);vertical-align:bottom}
tbody tr:last-child>*{border-bottom:0}
tr>:first-child{position:sticky;left:0;z-index:1;background:var(--paper);font-weight:600;border-right:1px solid
var(--line);min-width:8rem;max-width:16rem;overflow-wrap:anywhere}
thead tr>:first-child{background:var(--card);z-index:2}
th button{all:unset;cursor:pointer;display:inline-block;font:inherit}
th button:focus-visible,.scroll:focus-visible,summary:focus-visible,a:focus-visible{outline:3px solid var(--link);
outline-offset:2px}
th button::after{content:" \\2195";color:var(--soft);font-weight:400}
th[aria-sort=ascending] button::after{content:" \\2191";color:var(--ink)}
th[aria-sort=descending] button::after{content:" \\2193";color:var(--ink)}
tr.muted>*{color:var(--soft);font-style:italic}
tr.marked>*{background:var(--mark)}
sup{font-size:.7em;line-height:0;white-space:nowrap}
.note,figcaption{color:var(--soft);font-size:.86rem;margin:.3rem 0}
figure{margin:1rem 0}
.board{overflow-x:auto;background:#fff;border:1px solid var(--line);border-radius:6px;padding:.4rem}
img{display:block;max-width:100%;height:auto}
dl{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;gap:.15rem 1rem;margin:.5rem 0;font-size:.9rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere;min-width:0}
details{border:1px solid var(--line);border-radius:6px;padding:.2rem .7rem;margin:.6rem 0}
summary{cursor:pointer;font-weight:600;padding:.3rem 0}
footer{color:var(--soft);font-size:.86rem;padding:1.5rem 1rem}
@media (max-width:40rem){body{font-size:15px}h1{font-size:1.3rem}header,main,footer{padding-left:.75rem;
padding-right:.75rem}tr>:first-child{min-width:6.5rem;max-width:8.5rem}dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:.4rem}.board{padding:.15rem}.board img{min-width:34rem;max-width:none;width:34rem}}
@media print{nav,th button::after{display:none}.scroll,.board{overflow:visible;border:0}figure{break-inside:avoid}}
"""

SCRIPT = """
(function(){
'use strict';
function key(cell){
  var given=cell.getAttribute('data-value');
  return given===null?cell.textContent.trim().toLowerCase():parseFloat(given);
}
function order(one,other,sign){
  var first=typeof one==='number',second=typeof other==='number';
  if(first&&second)return sign*(one-other);
  if(first!==second)return first?-1:1;
  return one===''?1:other===''?-1:sign*(one<other?-1:one>other?1:0);
}
function sort(head){
  var table=head.closest('table'),body=table.tBodies[0],place=head.cellIndex;
  var sign=head.getAttribute('aria-sort')==='ascending'?-1:1;
  var rows=Array.prototype.slice.call(body.rows).map(function(row,number){
    return{row:row,key:key(row.cells[place]),number:number};
  });
  rows.sort(function(a,b){return order(a.key,b.key,sign)||a.number-b.number;});
  rows.forEach(function(entry){body.appendChild(entry.row);});
  Array.prototype.forEach.call(table.tHead.rows[0].cells,function(cell){
    cell.setAttribute('aria-sort',cell===head?(sign>0?'ascending':'descending'):'none');
  });
}
document.addEventListener('click',function(event){
  var button=event.target.closest&&event.target.closest('th button');
  if(button)sort(button.parentNode);
});
window.addEventListener('beforeprint',function(){
  document.querySelectorAll('details').forEach(function(part){part.open=true;});
});
})();
"""
"""Sorts a table by a click on a head; a button also takes Enter and Space. Cells without a number come last."""
