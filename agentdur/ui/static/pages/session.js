// One conversation: its transcript, each turn with its run, what is being said now, and a box to talk in.
import { html, useEffect, useRef, useState } from "../html.js";
import { del, get, poll, post, seg } from "../api.js";
import { needs, whyNot } from "../me.js";
import { go, href } from "../router.js";
import { ago, count, money, said as worded, short, stamp } from "../format.js";
import { ask, attempt } from "../parts/ask.js";
import { Fact, Message } from "../parts/llm.js";
import { Asked, approvalOf } from "../parts/waiting.js";
import { tokens } from "./sessions.js";

const PAGE = 1000, PAGES_MOST = 10;

export function SessionPage({ agent, id }) {
  const path = `/sessions/${seg(agent)}/${seg(id)}`;
  const [about, setAbout] = useState(/** @type {Api.Session | null | undefined} */ (undefined));
  const [messages, setMessages] = useState(/** @type {Api.SessionMessage[]} */ ([]));
  const turns = useRef(/** @type {Record<number, Partial<Api.Turn>>} */ ({}));
  const [asked, setAsked] = useState(/** @type {string[]} */ ([]));
  /** What was said here: `{id, invocation, text}`. */
  const [sent, setSent] = useState(/** @type {(Api.Posted & { text: string })[]} */ ([]));
  const looks = useRef({ begun: 0, shown: 0 });
  const load = async () => {
    const look = ++looks.current.begun;
    const found = await find(path, turns.current);
    if (look < looks.current.shown) return; // somebody who looked later was faster
    looks.current.shown = look;
    setAsked(found.asked);
    setMessages(found.messages);
    turns.current = found.turns;
    setAbout(found.about);
  };
  const over = async (invocation) => {
    await load();
    setSent((all) => all.filter((one) => one.invocation !== invocation));
  };
  const said = (posted, text) => {
    setSent((all) => [...all, { ...posted, text }]);
    load().catch(() => {});
  };
  useEffect(() => {
    document.title = `${worded(about?.title) || id} · agentdur`;
  }, [about?.title]);
  useEffect(() => poll(2.5, load), [path]);
  const waiting = sent.filter((one) => !messages.some((message) => message.id === one.id));
  const running = about?.running?.invocation ?? waiting[0]?.invocation;
  const talk = useTalk(running, load, over);
  const end = useRef(null);
  useEffect(() => {
    end.current?.scrollIntoView({ block: "nearest" });
  }, [messages.length, talk, asked.length, waiting.length]);
  return html`<div class="stack chat">
    <${Head} agent=${agent} id=${id} about=${about} path=${path} />
    <section class="card transcript" aria-label="Transcript">
      ${about === null && !waiting.length &&
        html`<p class="empty"><b>A new session</b>Say something, and it begins.</p>`}
      ${messages.map((one, i) => html`
        ${one.turn !== messages[i - 1]?.turn &&
          html`<${Turn} key=${`t${one.turn}`} number=${one.turn} record=${turns.current[one.turn]}
            at=${one.at * 1000} />`}
        <${Message} key=${one.index} message=${one.message}
          aside=${one.partial && html` <span class="tag">interrupted</span>`} />`)}
      ${waiting.map((one) => html`<${Message} key=${one.id}
        message=${{ role: "user", content: one.text }} />`)}
      ${talk && html`<div class="message m-assistant"><div class="who small"><b>assistant</b></div>
        <div class="bubble talk">${talk}</div></div>`}
      ${asked.map((one) => html`<${Asked} key=${one} id=${one} />`)}
      ${running && !talk && !asked.length && html`<p class="soft small">
        answering in <a class="mono" href=${href(`/invocations/${running}`)}>${short(running)}</a> …</p>`}
      <div ref=${end}></div>
    </section>
    <${Say} agent=${agent} path=${path} onSaid=${said} />
  </div>`;
}

/** @param {{agent: string, id: string, about: Api.Session | null | undefined, path: string}} props */
function Head({ agent, id, about, path }) {
  const stop = () => attempt(() => post(`${path}/stop`), "Stopped.");
  const remove = async () => {
    const yes = await ask({
      title: "Forget this session?",
        text: "Its messages go. Runs stay until their retention is over.",
      action: "Forget", danger: true,
    });
    if (yes && (await attempt(() => del(path), "Forgotten."))) go("/sessions");
  };
  return html`<div class="head">
      <div class="grow">
        <p class="small soft crumbs">
          <a href=${href("/sessions")}>sessions</a> / ${agent} / <span class="mono">${id}</span></p>
        <h1>${worded(about?.title) || id}</h1>
      </div>
      ${about?.running && html`<button ...${needs("operator")} onClick=${stop}>Stop</button>`}
      ${about && html`<a class="button" href=${href(`/objects/${seg(agent)}/${seg(id)}`)}>Object</a>
        <button class="danger" ...${needs("operator")} onClick=${remove}>Forget…</button>`}
    </div>
    ${about && html`<dl class="facts">
      <${Fact} name="Agent" value=${about.speaker || agent} />
      <${Fact} name="Turns" value=${about.turns} />
      <${Fact} name="Model calls" value=${about.model_calls} />
      <${Fact} name="Tokens" value=${count(tokens(about.usage))} />
      <${Fact} name="Cost" value=${money(about.cost)} />
      <${Fact} name="Begun" value=${ago(about.created * 1000)} />
    </dl>`}`;
}

/** @param {{number: number, record?: Partial<Api.Turn>, at: number}} props */
function Turn({ number, record, at }) {
  const run = record?.invocation;
  const odd = record?.status && record.status !== "completed";
  return html`<div class="turn small soft">
    <span>turn ${number}</span>
    ${run && html`<a class="mono" href=${href(`/invocations/${run}`)}>run ${short(run)}</a>`}
    ${record?.cost != null && html`<span class="tag cost num">${money(record.cost)}</span>`}
    ${odd && html`<span class="status is-${record.status === "failed" ? "failed" : "paused"}">
      ${record.status}</span>`}
    <span title=${stamp(at)}>${ago(at)}</span>
    ${record?.error && html`<span class="bad">${record.error}</span>`}
  </div>`;
}

function Say({ agent, path, onSaid }) {
  const [text, setText] = useState(""), why = whyNot("operator", true);
  const send = async (event) => {
    event.preventDefault();
    const said = text.trim();
    if (!said || why) return;
    setText("");
    const posted = await attempt(() => post(`${path}/messages?wait=false`, { content: said }));
    if (posted) onSaid(posted, said);
    else setText(said);
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  };
  return html`<form class="card say" onSubmit=${send}>
    <label class="hidden" for="say">Message</label>
    <textarea id="say" rows="2" placeholder=${`Message to ${agent}`} value=${text}
      onInput=${(e) => setText(e.target.value)} onKeyDown=${keys}></textarea>
    <div class="row">
      <span class="small soft grow">${why || html`
        <kbd>Enter</kbd> sends, <kbd>Shift</kbd>+<kbd>Enter</kbd> is a new line`}</span>
      <button class="primary" disabled=${!text.trim() || !!why} title=${why}>Send</button>
    </div>
  </form>`;
}

/** What the model says in a turn that runs, as it says it. */
function useTalk(running, onNews, onEnd) {
  const [talk, setTalk] = useState("");
  useEffect(() => {
    if (!running) return undefined;
    const source = new EventSource(`/invocations/${seg(running)}/live?after=0`);
    const parts = new Map();
    const show = () => setTalk([...parts.values()].join(""));
    // Who comes back is told again what is not in the journal yet.
    source.addEventListener("open", () => (parts.clear(), show()));
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
    source.addEventListener("rows", () => onNews().catch(() => {}));
    source.addEventListener("end", () => {
      source.close();
      onEnd(running).then(() => setTalk(""), () => {});
    });
    return () => {
      source.close();
      setTalk("");
    };
  }, [running]);
  return talk;
}

/** All there is to show. A session that nobody has spoken in yet is `about: null`. */
async function find(path, known) {
  try {
    const about = /** @type {Api.Session} */ (await get(path));
    const [messages, turns] = await Promise.all([history(path), turnsOf(path, known)]);
    if (about.running) turns[about.running.turn] = { invocation: about.running.invocation };
    const asked = about.running ? await questions(about.running.invocation) : [];
    return { about, messages, turns, asked };
  } catch (error) {
    if (error.status !== 404) throw error;
    return { about: null, messages: [], turns: {}, asked: [] };
  }
}

async function history(path) {
  const all = /** @type {Api.SessionMessage[]} */ ([]);
  let after = /** @type {number | null} */ (-1);
  for (let n = 0; n < PAGES_MOST && after !== null; n++) {
    const page = await get(`${path}/messages?limit=${PAGE}&after=${after}`);
    all.push(...page.messages);
    after = page.after ?? null;
  }
  return all;
}

/** Of each turn that ended: its invocation, how it ended, what it cost. What has ended is asked for once. */
async function turnsOf(path, known) {
  const turns = { ...known };
  let after = Math.max(0, ...Object.values(known).filter((one) => one.turn).map((one) => one.turn));
  for (let n = 0; n < PAGES_MOST && after !== null; n++) {
    const page = await get(`${path}/turns?after=${after}&limit=200`);
    for (const one of page.turns) turns[one.turn] = one;
    after = page.after;
  }
  return turns;
}

/** What a running turn asks a person. */
async function questions(invocation) {
  const { run } = await get(`/invocations/${seg(invocation)}/rows?after=1000000000&limit=1`);
  return (run.waiting_for ?? []).flatMap((one) => approvalOf(one) ?? []);
}
