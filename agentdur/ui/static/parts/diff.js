// Two texts, line by line.
import { html, useMemo } from "../html.js";

const MOST = 1200;

export function diffLines(left, right) {
  const a = left.split("\n"), b = right.split("\n");
  let head = 0, tail = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  while (tail < a.length - head && tail < b.length - head &&
    a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const x = a.slice(head, a.length - tail), y = b.slice(head, b.length - tail);
  const out = a.slice(0, head).map((text) => [" ", text]);
  if (x.length * y.length > MOST * MOST)
    out.push(...x.map((text) => ["-", text]), ...y.map((text) => ["+", text]));
  else out.push(...middle(x, y));
  out.push(...a.slice(a.length - tail).map((text) => [" ", text]));
  return out;
}

function middle(a, b) {
  const width = b.length + 1, best = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      best[i * width + j] = a[i] === b[j] ? best[(i + 1) * width + j + 1] + 1 :
        Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  const out = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) out.push([" ", a[i++], j++]);
    else if (j >= b.length || (i < a.length && best[(i + 1) * width + j] >= best[i * width + j + 1]))
      out.push(["-", a[i++]]);
    else out.push(["+", b[j++]]);
  }
  return out;
}

export function Diff({ left, right }) {
  const lines = useMemo(() => diffLines(left, right), [left, right]);
  if (left === right) return html`<div class="value"><pre tabindex="0" role="group" aria-label="both">${left
    || "nothing"}</pre></div>`;
  return html`<div class="value"><pre class="diff" tabindex="0" role="group"
    aria-label="difference">${lines.map(([kind, text]) =>
    html`<span class=${kind === "+" ? "added" : kind === "-" ? "removed" : ""}>${kind} ${text}${"\n"}
    </span>`)}</pre></div>`;
}
