// Conversations: the list of all sessions, and one with its transcript and a box to talk in.
import { html, useEffect, useRef, useState } from "../html.js";
import { del, get, poll, post, seg } from "../api.js";
import { go, href, route, setQuery } from "../router.js";
import { ago, count, money, plural, short, stamp } from "../format.js";
import { ask, attempt } from "../parts/ask.js";
import { Fact, Message } from "../parts/llm.js";

const tokens = (usage) => (usage?.prompt_tokens ?? 0) + (usage?.completion_tokens ?? 0);

export function SessionsPage() {
  const { query } = route.value;
  const agent = query.get("agent") ?? "", needle = query.get("q") ?? "";
  const [found, setFound] = useState(null);
  const [failed, setFailed] = useState("");
  useEffect(() => {
    document.title = "Sessions · agentdur";
    return poll(4, () => get(`/sessions?limit=500${agent ? `&agent=${seg(agent)}` : ""}`).then((page) => setFound(page.sessions), (error) => setFailed(error.status === 404 ? "none" : error.message)));
  }, [agent]);
  const shown = (found ?? []).filter((one) => `${one.title} ${one.id} ${one.agent}`.toLowerCase().includes(needle.toLowerCase())).sort((a, b) => b.updated - a.updated);
  const agents = [...new Set((found ?? []).map((one) => one.agent))];
  const start = async () => {
    const said = await ask({
      title: "New session", action: "Open",
      fields: [{ name: "agent", label: "Agent", value: agent || agents[0] || "" }, { name: "id", label: "Id", value: `ui-${Date.now().toString(36)}` }],
    });
    if (said?.agent && said.id) go(`/sessions/${seg(said.agent)}/${seg(said.id)}`);
  };
  return html`<div class="stack">
    <div class="head"><h1>Sessions</h1><span class="grow"></span>
      ${(agents.length > 1 || agent) && html`<select aria-label="Agent" value=${agent} onChange=${(e) => setQuery({ agent: e.target.value })}><option value="">all agents</option>${agents.map((one) => html`<option value=${one}>${one}</option>`)}</select>`}
      <input type="search" data-filter placeholder="Filter" aria-label="Filter" value=${needle} onInput=${(e) => setQuery({ q: e.target.value })} />
      ${found && html`<button class="primary" onClick=${start}>New session</button>`}
    </div>
    ${failed === "none" ? html`<div class="card empty"><b>This server has no chat agents</b>Serve one with <code>chat(agent)</code>, and its sessions are here.</div>` : failed && html`<p class="note failed" role="alert">${failed}</p>`}
    ${found && !shown.length && html`<div class="card empty"><b>No sessions yet</b>A session begins with its first message.</div>`}
    ${shown.length > 0 && html`<div class="card scroll"><table class="table stacks">
      <thead><tr><th>Conversation</th><th>Agent</th><th class="right">Turns</th><th class="right">Tokens</th><th class="right">Cost</th><th>Last</th></tr></thead>
      <tbody>${shown.map((one) => html`<tr key=${`${one.agent}/${one.id}`}>
        <td class="main"><a class="rowlink" href=${href(`/sessions/${seg(one.agent)}/${seg(one.id)}`)}><b>${one.title || one.id}</b></a><br /><span class="small soft mono">${one.id}</span>${one.running && html` <span class="status is-running">answering</span>`}</td>
        <td>${one.agent}</td><td class="right num">${one.turns}</td><td class="right num">${count(tokens(one.usage))}</td><td class="right num">${money(one.cost)}</td><td class="nowrap soft">${ago(one.updated * 1000)}</td>
      </tr>`)}</tbody></table></div>`}
  </div>`;
}

export function SessionPage({ agent, id }) {
  const path = `/sessions/${seg(agent)}/${seg(id)}`;
  const [about, setAbout] = useState(undefined);
  const [messages, setMessages] = useState([]);
  const [talk, setTalk] = useState("");
  const [text, setText] = useState("");
  const [invocations, setInvocations] = useState({});
  const ahead = useRef(null), end = useRef(null);
  const load = async () => {
    try {
      const known = await get(path);
      setAbout(known);
      setMessages((await get(`${path}/messages?limit=1000`)).messages);
      const turns = await get(`/invocations?service=${seg(agent)}&key=${seg(id)}&handler=turn&limit=1000`);
      setInvocations(Object.fromEntries(turns.invocations.reverse().map((one, i) => [i + 1, one])));
    } catch (error) {
      if (error.status === 404) setAbout(null);
      else throw error;
    }
  };
  useEffect(() => {
    document.title = `${id} · agentdur`;
    return poll(2.5, load);
  }, [path]);
  useEffect(() => () => ahead.current?.close(), []);
  useEffect(() => {
    end.current?.scrollIntoView({ block: "nearest" });
  }, [messages.length, talk]);
  const running = about?.running?.invocation;
  useEffect(() => {
    if (!running) return undefined;
    const source = new EventSource(`/invocations/${seg(running)}/live?after=0`);
    const parts = new Map();
    const show = () => setTalk([...parts.values()].join(""));
    source.addEventListener("chunk", (event) => {
      const { run, data } = JSON.parse(event.data);
      if (data?.type && data.type !== "text") return;
      parts.set(run, (parts.get(run) ?? "") + (data?.delta ?? ""));
      show();
    });
    source.addEventListener("void", (event) => {
      parts.delete(JSON.parse(event.data).run);
      show();
    });
    const done = () => {
      source.close();
      load().then(() => setTalk(""), () => {});
    };
    source.addEventListener("end", done);
    return () => source.close();
  }, [running]);
  const send = async (event) => {
    event.preventDefault();
    const said = text.trim();
    if (!said) return;
    setText("");
    if (await attempt(() => post(`${path}/messages?wait=false`, { content: said }))) load();
    else setText(said);
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  };
  const stop = () => attempt(() => post(`${path}/stop`), "Stopped.");
  const remove = async () => {
    if (await ask({ title: "Forget this session?", text: "Its messages are removed. Runs stay until their retention is over.", action: "Forget", danger: true }))
      if (await attempt(() => del(path), "Forgotten.")) go("/sessions");
  };
  let turn = 0;
  return html`<div class="stack chat">
    <div class="head">
      <div class="grow"><p class="small soft crumbs"><a href=${href("/sessions")}>sessions</a> / ${agent} / <span class="mono">${id}</span></p><h1>${about?.title || id}</h1></div>
      ${about?.running && html`<button onClick=${stop}>Stop</button>`}
      ${about && html`<a class="button" href=${href(`/objects/${seg(agent)}/${seg(id)}`)}>Object</a><button class="danger" onClick=${remove}>Forget…</button>`}
    </div>
    ${about && html`<dl class="facts">
      <${Fact} name="Agent" value=${about.speaker || agent} /><${Fact} name="Turns" value=${about.turns} /><${Fact} name="Model calls" value=${about.model_calls} />
      <${Fact} name="Tokens" value=${count(tokens(about.usage))} /><${Fact} name="Cost" value=${money(about.cost)} /><${Fact} name="Begun" value=${ago(about.created * 1000)} /></dl>`}
    <section class="card transcript" aria-label="Transcript">
      ${about === null && html`<p class="empty"><b>A new session</b>Say something, and it begins.</p>`}
      ${messages.map((one) => {
        const first = one.turn !== turn;
        turn = one.turn;
        const run = invocations[one.turn];
        return html`${first && html`<div class="turn small soft" key=${`t${one.turn}`}><span>turn ${one.turn}</span>${run && html`<a class="mono" href=${href(`/invocations/${run.id}`)}>run ${short(run.id)}</a>`}${run?.output?.cost != null && html`<span class="tag cost num">${money(run.output.cost)}</span>`}<span title=${stamp(one.at * 1000)}>${ago(one.at * 1000)}</span></div>`}
          <${Message} key=${one.index} message=${one.message} aside=${html`${one.partial ? html`<span class="tag">interrupted</span>` : ""}`} />`;
      })}
      ${talk && html`<div class="message m-assistant"><div class="who small"><b>assistant</b></div><div class="bubble talk">${talk}</div></div>`}
      ${about?.running && !talk && html`<p class="soft small pad">answering in <a class="mono" href=${href(`/invocations/${running}`)}>${short(running)}</a> …</p>`}
      <div ref=${end}></div>
    </section>
    <form class="card say" onSubmit=${send}>
      <label class="hidden" for="say">Message</label>
      <textarea id="say" rows="2" placeholder=${`Message to ${agent}`} value=${text} onInput=${(e) => setText(e.target.value)} onKeyDown=${keys}></textarea>
      <div class="row"><span class="small soft grow"><kbd>Enter</kbd> sends, <kbd>Shift</kbd>+<kbd>Enter</kbd> is a new line</span><button class="primary" disabled=${!text.trim()}>Send</button></div>
    </form>
  </div>`;
}
