// Conversations: the list of all sessions.
import { html, useEffect, useState } from "../html.js";
import { get, poll, seg } from "../api.js";
import { needs } from "../me.js";
import { go, href, route, setQuery } from "../router.js";
import { ago, count, money, said as worded } from "../format.js";
import { ask } from "../parts/ask.js";
import { Pick } from "../parts/pick.js";

export const tokens = (usage) => (usage?.prompt_tokens ?? 0) + (usage?.completion_tokens ?? 0);

export function SessionsPage() {
  const { query } = route.value;
  const agent = query.get("agent") ?? "", needle = query.get("q") ?? "";
  const [found, setFound] = useState(/** @type {Api.Session[] | null} */ (null));
  const [failed, setFailed] = useState("");
  useEffect(() => {
    document.title = "Sessions · agentdur";
    return poll(4, () => get(`/sessions?limit=500${agent ? `&agent=${seg(agent)}` : ""}`).then((page) => {
        setFound(page.sessions);
        setFailed("");
      }, (error) => setFailed(error.status === 404 ? "none" : error.message)));
  }, [agent]);
  const shown = (found ?? []).filter((one) =>
    `${worded(one.title)} ${one.id} ${one.agent}`.toLowerCase().includes(needle.toLowerCase())).sort((a, b) =>
    b.updated - a.updated);
  const agents = [...new Set((found ?? []).map((one) => one.agent))];
  const start = async () => {
    const said = await ask({
      title: "New session", action: "Open",
      fields: [{ name: "agent", label: "Agent", value: agent || agents[0] || "" }, { name: "id", label: "Id",
        value: `ui-${Date.now().toString(36)}` }],
    });
    if (said?.agent && said.id) go(`/sessions/${seg(said.agent)}/${seg(said.id)}`);
  };
  return html`<div class="stack">
    <div class="head"><h1>Sessions</h1><span class="grow"></span>
      ${(agents.length > 1 || agent) && html`<${Pick} label="Agent" all="all agents"
        value=${agent} options=${agents} onPick=${(one) => setQuery({ agent: one })} />`}
      <input type="search" data-filter placeholder="Filter" aria-label="Filter" value=${needle}
        onInput=${(e) => setQuery({ q: e.target.value })} />
      ${found && html`<button class="primary" ...${needs("operator", true)}
        onClick=${start}>New session</button>`}
    </div>
    ${failed === "none" ?
      html`<div class="card empty">
      <b>This server has no chat agents</b>Serve one with <code>chat(agent)</code>, and its sessions are here.
      </div>` : failed && html`<p class="note failed" role="alert">${failed}</p>`}
    ${found && !shown.length && html`<div class="card empty">
      <b>No sessions yet</b>A session begins with its first message.</div>`}
    ${shown.length > 0 && html`<div class="card scroll"><table class="table stacks">
      <thead><tr><th>Conversation</th><th>Agent</th><th class="right">Turns</th><th class="right">Tokens</th>
        <th class="right">Cost</th><th>Last</th></tr></thead>
      <tbody>${shown.map((one) => html`<tr key=${`${one.agent}/${one.id}`}>
        <td class="main"><a class="rowlink" href=${href(`/sessions/${seg(one.agent)}/${seg(one.id)}`)}>
          <b>${worded(one.title) || one.id}</b></a><br />
          <span class="small soft mono">${one.id}</span>${one.running &&
          html` <span class="status is-running">answering</span>`}</td>
        <td>${one.agent}</td><td class="right num">${one.turns}</td>
          <td class="right num">${count(tokens(one.usage))}</td><td class="right num">${money(one.cost)}</td>
          <td class="nowrap soft">${ago(one.updated * 1000)}</td>
      </tr>`)}</tbody></table></div>`}
  </div>`;
}
