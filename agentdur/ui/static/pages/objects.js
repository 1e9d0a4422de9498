// Keys of objects and workflows: who holds one, who waits, and its state, which can be edited.
import { html, useEffect, useState } from "../html.js";
import { get, poll, post, seg } from "../api.js";
import { needs } from "../me.js";
import { href, route, setQuery } from "../router.js";
import { ago, bytes, ms, redacted, said as worded, short, span, now, plural } from "../format.js";
import { ask, attempt } from "../parts/ask.js";
import { Pick, useServices } from "../parts/pick.js";
import { Status } from "../parts/status.js";
import { parsed } from "../parts/journal.js";
import { Value } from "../parts/value.js";
import { aboutRun } from "./runs.js";

const MOST = 300;

export function ObjectsPage() {
  const { query } = route.value;
  const service = query.get("service") ?? "", needle = query.get("q") ?? "";
  const services = useServices().filter((one) => one.ty !== "Service").map((one) => one.name);
  const [found, setFound] = useState(/** @type {Api.Key[] | null} */ (null));
  const [failed, setFailed] = useState("");
  useEffect(() => {
    document.title = "Objects · agentdur";
  }, []);
  useEffect(() => poll(4, async () => {
    try {
      setFound(await keys(service, needle));
      setFailed("");
    } catch (error) {
      setFailed(error.message);
    }
  }), [service, needle]);
  return html`<div class="stack">
    <div class="head"><h1>Objects</h1><span class="grow"></span>
      <${Pick} label="Service" all="all services" value=${service} options=${services}
        onPick=${(one) => setQuery({ service: one })} />
      <input type="search" data-filter placeholder="Filter keys" aria-label="Filter keys" value=${needle}
        onInput=${(e) => setQuery({ q: e.target.value })} /></div>
    ${failed && html`<p class="note failed" role="alert">${failed}</p>`}
    ${found && !found.length && html`<div class="card empty">
      <b>No keys</b>Objects and workflows are here as soon as they have state, or somebody holds them.</div>`}
    ${found && found.length > 0 && html`<div class="card scroll"><table
      class="table stacks"><thead><tr><th>Key</th><th>Held by</th><th class="right">Waiting</th>
      <th class="right">State</th></tr></thead>
      <tbody>${found.map((one) => html`<tr key=${`${one.service}/${one.key}`}>
        <td class="main">
        <a class="rowlink mono" href=${href(`/objects/${seg(one.service)}/${seg(one.key)}`)}>
        <span class="soft">${one.service} /</span> ${one.key || "(empty)"}</a></td>
        <td>${one.holder ? html`<a class="mono small" href=${href(`/invocations/${one.holder}`)}>
          ${short(one.holder)}</a>` : html`<span class="soft">free</span>`}</td>
        <td class="right num">${one.waiting || ""}</td><td class="right num">${one.values ?
          plural(one.values, "value") : ""}</td></tr>`)}</tbody></table></div>`}
    ${found && found.length >= MOST && html`<p class="soft small">The first ${MOST}; filter for others.</p>`}
  </div>`;
}

async function keys(service, needle) {
  const asked = new URLSearchParams({ limit: String(MOST), ...(service ? { service } : {}),
    ...(needle ? { contains: needle } : {}) });
  return (await get(`/objects?${asked}`)).objects;
}

/** @typedef {Api.Holding & {state: Api.State, runs: Api.Run[]}} Everything */

export function ObjectPage({ service, key_: key }) {
  const [all, setAll] = useState(/** @type {Everything | null} */ (null));
  const [failed, setFailed] = useState("");
  const load = async () => {
    try {
      const [state, runs, about] = await Promise.all([
        get(`/services/${seg(service)}/state?object_key=${seg(key)}`),
        get(`/invocations?service=${seg(service)}&key=${seg(key)}&limit=50`),
        get(`/objects/${seg(service)}?object_key=${seg(key)}`),
      ]);
      setAll({ ...about, state, runs: runs.invocations });
      setFailed("");
    } catch (error) {
      setFailed(error.message);
    }
  };
  useEffect(() => {
    document.title = `${service}/${key} · agentdur`;
    return poll(2.5, load);
  }, [service, key]);
  if (!all) return html`<p class=${failed ? "note failed" : "soft"}>${failed || "…"}</p>`;
  const by = Object.fromEntries(all.runs.map((one) => [one.id, one]));
  return html`<div class="stack">
    <div class="head"><div class="grow"><p class="small soft crumbs">
      <a href=${href(`/objects?service=${seg(service)}`)}>${service}</a></p><h1>${key ||
      "(empty key)"}</h1></div>
      <a class="button" href=${href(`/invocations?service=${seg(service)}&key=${seg(key)}`)}>Invocations</a>
      </div>
    ${failed && html`<p class="note failed" role="alert">${failed}</p>`}
    <div class="cols">
      <section class="card"><header><h2>Lock</h2></header><div class="pad">${all.holder
        ? html`<p>Held by <a class="mono"
          href=${href(`/invocations/${all.holder}`)}>${by[all.holder]?.target_handler_name ??
          ""} ${short(all.holder)}</a></p>
          ${by[all.holder] && html`<p class="row"><${Status} run=${by[all.holder]} />
          <span class="small">${aboutRun(by[all.holder])}</span></p>`}`
        : html`<p class="soft">Free: the next exclusive handler begins at once.</p>`}</div></section>
      <section class="card"><header><h2>Inbox</h2><span class="tag num">${all.inbox.length}</span></header>
        <div class="pad">${all.inbox.length
        ? html`<ol class="plainlist">${all.inbox.map((one, i) =>
          html`<li key=${one.id}><span class="soft num">${i + 1}.</span> <a class="mono"
          href=${href(`/invocations/${one.id}`)}>${by[one.id]?.target_handler_name ??
          ""} ${short(one.id)}</a> <span
          class="soft small">waits ${span(now.value - ms(one.created_at))}</span></li>`)}</ol>`
        : html`<p class="soft">Nobody waits.</p>`}</div></section>
    </div>
    <${State} service=${service} object=${key} state=${all.state} onDone=${load} />
    ${all.promises.length > 0 && html`<section class="card"><header><h2>Promises</h2></header>
      <ul class="plainlist pad">${all.promises.map((one) =>
      html`<li key=${one.key}><b class="mono">${one.key}</b> ${one.completed ?
      html`<span class="tag">${one.failure ? "rejected" : "resolved"}</span> <code>
      ${one.failure ?? worded(one.value)}</code>` :
      html`<span class="status is-suspended">open</span>`}</li>`)}</ul></section>`}
    <section class="card"><header><h2>Recent invocations</h2></header>${all.runs.length ?
      html`<div class="scroll"><table class="table stacks"><tbody>${all.runs.slice(0, 20).map((one) =>
      html`<tr key=${one.id}><td><${Status} run=${one} /></td>
      <td class="main"><a class="mono" href=${href(`/invocations/${one.id}`)}>
      ${one.target_handler_name} · ${short(one.id)}</a></td><td class="about small">${aboutRun(one)}</td>
      <td class="right soft nowrap">${ago(ms(one.created_at))}</td></tr>`)}</tbody></table></div>` :
      html`<p class="pad soft">None.</p>`}</section>
  </div>`;
}

/** The values of a key: an edit replaces all of them at once, and only if nobody else has. */
/** @param {{service: string, object: string, state: Api.State, onDone: () => void}} props */
function State({ service, object, state, onDone }) {
  const names = Object.keys(state.state);
  const save = async (values, title) => {
    const done = await attempt(() => post(`/services/${seg(service)}/state`, { object_key: object,
      version: state.version, new_state: values }), title);
    if (done) setTimeout(onDone, 200);
  };
  const edit = async (name) => {
    const old = name === null ? "" : text(state.state[name]);
    const said = await ask({
      title: name === null ? "New value" : `Edit ${name}`,
        text: "It takes effect when no exclusive handler runs, unless the state has changed until then.",
        action: "Save",
      fields: [...(name === null ? [{ name: "name", label: "Name" }] : []), { name: "value",
        label: "Value (text, mostly JSON)", rows: 8, value: old }],
    });
    if (said && (name ?? said.name)) save({ ...state.state, [name ?? said.name]: said.value },
      "The edit is accepted.");
  };
  const remove = async (name) => {
    if (!(await ask({ title: `Delete ${name}?`, action: "Delete", danger: true }))) return;
    const { [name]: _, ...rest } = state.state;
    save(rest, "The edit is accepted.");
  };
  const clear = async () => (await ask({ title: "Clear all state of this key?", action: "Clear",
    danger: true })) && save({}, "The edit is accepted.");
  return html`<section class="card"><header><h2>State</h2><span class="tag num">${plural(names.length,
    "value")}</span><span class="grow"></span><button ...${needs("admin", true)} onClick=${() =>
    edit(null)}>Add…</button>${names.length > 0 && html`<button class="danger" ...${needs("admin", true)}
      onClick=${clear}>Clear…</button>`}</header>
    ${names.length ? html`<div class="scroll"><table class="table stacks values"><tbody>${names.map((name) =>
      html`<tr key=${name}><td class="main mono"><b>${name}</b><br />
      ${!redacted(state.state[name]) &&
        html`<span class="small soft">${bytes(text(state.state[name]).length)}</span>`}</td>
      <td class="about wide"><${Value} value=${redacted(state.state[name]) ? state.state[name] :
        parsed(text(state.state[name]))} label=${name} /></td>
      <td class="right nowrap"><button ...${needs("admin", true)} onClick=${() =>
        edit(name)} aria-label=${`edit ${name}`}>Edit…</button> <button class="danger"
        ...${needs("admin", true)} onClick=${() =>
        remove(name)} aria-label=${`delete ${name}`}>Delete…</button></td></tr>`)}</tbody></table></div>` :
        html`<p class="pad soft">There is none.</p>`}</section>`;
}

const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
