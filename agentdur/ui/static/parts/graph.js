// A tree from left to right, and who handed over to whom: a hand-made SVG.
import { html } from "../html.js";
import { href } from "../router.js";
import { count, money } from "../format.js";

const WIDE = 178, HIGH = 50, ACROSS = 40, DOWN = 14, EDGE = 12;
const MOST = 60;

/** @param {{root: any, handoffs: any[]}} props */
export function Graph({ root, handoffs }) {
  const placed = place(root);
  if (placed.length > MOST)
    return html`<p class="pad soft small">Too many to draw: the list has them all.</p>`;
  const at = new Map(placed.map((one) => [one.node, one]));
  const width = Math.max(...placed.map((one) => one.x)) + WIDE + 2 * EDGE + 24;
  const height = Math.max(...placed.map((one) => one.y)) + HIGH + 2 * EDGE;
  return html`<div class="scroll graph" tabindex="0" role="group"
    aria-label="Graph of agents, tools and runs">
    <svg width=${width} height=${height} viewBox=${`${-EDGE} ${-EDGE} ${width} ${height}`}>
      <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
        orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" class="tip" /></marker></defs>
      ${placed.filter((one) => one.up).map((one) => html`<path key=${one.node.key} class="edge"
        d=${along(at.get(one.up), one)} />`)}
      ${placed.map((one) => html`<${Box} key=${one.node.key} ...${one} />`)}
      ${handoffs.map((one) => html`<${Over} key=${`${one.from.key}>${one.to.key}`} from=${at.get(one.from)}
        to=${at.get(one.to)} times=${one.count} />`)}
    </svg></div>`;
}

/** Leaves below each other, who has some in the middle of them. */
function place(root) {
  const out = [];
  let y = 0;
  const put = (node, depth, up) => {
    const one = { node, up, x: depth * (WIDE + ACROSS), y };
    out.push(one);
    if (!node.children.length) y += HIGH + DOWN;
    const inner = node.children.map((child) => put(child, depth + 1, node));
    if (inner.length) one.y = (inner[0].y + inner[inner.length - 1].y) / 2;
    return one;
  };
  put(root, 0, null);
  return out;
}

function along(from, to) {
  const x = from.x + WIDE, y = from.y + HIGH / 2, z = to.y + HIGH / 2, bend = ACROSS / 2;
  return `M${x} ${y}C${x + bend} ${y} ${to.x - bend} ${z} ${to.x} ${z}`;
}

function Box({ node, x, y }) {
  const { calls, tokens, cost } = node.all;
  const facts = [node.count > 1 || node.kind === "tool" ? `× ${node.count}` : "",
    calls ? `${count(tokens)} tokens` : "", money(cost), node.failed ? `${node.failed} failed` : "",
    node.open ? "open" : ""].filter(Boolean).join(" · ");
  const body = html`<rect width=${WIDE} height=${HIGH} rx="9"
      class=${`n-${node.kind} ${node.failed ? "n-failed" : ""}`} />
    <text x="12" y="21" class="name">${cut(node.name, 22)}</text>
    <text x="12" y="38" class="fact">${cut(facts || KINDS[node.kind], 28)}</text>
    <title>${node.name}</title>`;
  return html`<g transform=${`translate(${x} ${y})`}>${node.ids.length === 1 ?
    html`<a href=${href(`/invocations/${node.ids[0]}`)}>${body}</a>` : body}</g>`;
}

const KINDS = { run: "this run", agent: "agent", tool: "tool", call: "called run" };
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** An arc on the right-hand side of both. */
function Over({ from, to, times }) {
  const x = from.x + WIDE, y = from.y + HIGH / 2 + 8, z = to.y + HIGH / 2 - 8, end = to.x + WIDE;
  const out = Math.max(x, end) + 30;
  return html`<g class="handover">
    <path d=${`M${x} ${y}C${out} ${y} ${out} ${z} ${end} ${z}`} marker-end="url(#tip)" />
    <title>${from.node.name} hands over to ${to.node.name}${times > 1 ? `, ${times} times` : ""}</title></g>`;
}
