// The agents of a run as a graph and as a tree; runs they called are looked into, some at a time.
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { poll } from "../api.js";
import { href } from "../router.js";
import { count, money, plural, short, span } from "../format.js";
import { ended } from "./status.js";
import { agentsOf, calledBy, walk } from "./agents.js";
import { Graph } from "./graph.js";
import { Run } from "../live.js";

const SECONDS = 2, LOOKED_INTO = 20, MORE = 80, AT_A_TIME = 4;
const KINDS = { run: "run", agent: "agent", tool: "tool", call: "run" };

/** @param {{run: Run, about: any, version: number}} props */
export function AgentTree({ run, about, version }) {
  const { runs, stamp, left, more } = useCalled(run, version);
  const { root, handoffs } = useMemo(() => agentsOf(about.target, run.journal, (id) =>
    runs.get(id)?.journal ?? null), [version, stamp]);
  if (!root.children.length) return html`<div class="card empty"><b>No agents here</b>
    This run has asked no model, and called no other run${ended(about) ? "" : " so far"}.</div>`;
  return html`<section class="card" aria-label="Agents"><header><h2>Agents</h2>
      <span class="soft small num">${[`∑ ${plural(root.all.calls, "model call")}`,
        root.all.calls ? `${count(root.all.tokens)} tokens` : "",
        money(root.all.cost)].filter(Boolean).join(" · ")}</span>
      <span class="grow"></span>
      ${left > 0 && html`<span class="small soft">${plural(left, "called run")} not looked into</span>
        <button onClick=${more}>Look into more</button>`}</header>
    <${Graph} root=${root} handoffs=${handoffs} />
    <div class="scroll" tabindex="0" role="group" aria-label="Tree of agents, tools and runs">
    <table class="table agenttree"><thead><tr><th>Who</th><th class="right">Times</th>
      <th class="right">Model calls</th><th class="right">Tokens</th><th class="right">Cost</th>
      <th class="right">Took</th></tr></thead>
      <tbody>${[...walk(root)].map(([one, depth]) => html`<${Line} key=${one.key} one=${one} depth=${depth}
        handoffs=${handoffs} />`)}</tbody></table></div></section>`;
}

function Line({ one, depth, handoffs }) {
  const over = handoffs.filter((hand) => hand.from === one);
  const [first] = one.ids;
  return html`<tr><td class="who" style=${{ "--depth": depth }}>
      <span class="glyph g-${GLYPH[one.kind][0]}" aria-hidden="true">${GLYPH[one.kind][1]}</span>
      <span class="hidden">level ${depth}, ${KINDS[one.kind]}</span>
      <b class="mono">${one.ids.length === 1
        ? html`<a href=${href(`/invocations/${first}`)}>${one.name}</a>` : one.name}</b>
      ${[...one.models].map((model) => html`<span class="tag" key=${model}>${model}</span>`)}
      ${over.map((hand) => html`<span class="tag over" key=${hand.to.key}>hands over to ${hand.to.name}${
        hand.count > 1 ? ` × ${hand.count}` : ""}</span>`)}
      ${one.asked > 0 && html`<span class="tag">${plural(one.asked, "approval")}</span>`}
      ${one.failed > 0 && html`<span class="tag bad">${one.failed} failed</span>`}
      ${one.open > 0 && html`<span class="tag">${one.open} open</span>`}
      ${one.ids.length > 1 && html`<span class="small">${one.ids.slice(0, 6).map((id) =>
        html` <a class="mono" key=${id} href=${href(`/invocations/${id}`)}>${short(id)}</a>`)}${
        one.ids.length > 6 && " …"}</span>`}</td>
    <td class="right num">${one.count}</td><td class="right num">${one.all.calls || ""}</td>
    <td class="right num">${one.all.calls ? count(one.all.tokens) : ""}</td>
    <td class="right num">${money(one.all.cost)}</td>
    <td class="right num">${one.took ? span(one.took) : ""}</td></tr>`;
}

/** By kind: the colour and the letter of a step. */
export const GLYPH = { run: ["input", "→"], agent: ["llm", "✦"], tool: ["tool", "⚒"], call: ["call", "⤷"] };

/** The runs it called, and those they called: the first of them, kept up to date until they have ended. */
function useCalled(run, version) {
  const runs = useRef(new Map()).current;
  const [stamp, setStamp] = useState(0);
  const [most, setMost] = useState(LOOKED_INTO);
  const known = useMemo(() => {
    const found = new Set(calledBy(run.journal));
    for (const id of found) {
      const one = runs.get(id);
      if (one) for (const inner of calledBy(one.journal)) found.add(inner);
    }
    return [...found];
  }, [version, stamp]);
  const wanted = useRef(known);
  wanted.current = known.slice(0, most);
  useEffect(() => poll(SECONDS, async () => {
    let news = false;
    const todo = wanted.current.filter((id) => !runs.get(id)?.over);
    const turn = async () => {
      for (let id = todo.shift(); id; id = todo.shift()) {
        const one = runs.get(id) ?? new Run(id), before = one.journal.last;
        runs.set(id, one);
        one.over = await one.refresh().catch((error) => error.status === 404);
        news ||= one.over || one.journal.last !== before;
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, turn));
    if (news) setStamp((n) => n + 1);
  }), [known.length, most]);
  return { runs, stamp, left: Math.max(0, known.length - most), more: () => setMost(most + MORE) };
}
