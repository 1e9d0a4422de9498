// All invocations: filters in the URL, and actions on what is chosen, counted first.
import { html, useEffect, useState } from "../html.js";
import { get, poll, post, seg } from "../api.js";
import { may } from "../me.js";
import { href, route, setQuery } from "../router.js";
import { ago, ms, now, plural, short, span, stamp, until } from "../format.js";
import { ask, attempt, say } from "../parts/ask.js";
import { STATUSES, Status, ended, shown, word } from "../parts/status.js";
import { Pick, useServices } from "../parts/pick.js";
import { Since, waitingWords } from "../parts/waiting.js";

const PAGE = 200, MOST = 1000;
/** What the API calls what is shown: one that is in memory and waits for somebody runs, for the API. */
const ASKED = { suspended: ["suspended", "running"] };
const ACTIONS = [["cancel", "Cancel"], ["kill", "Kill"], ["pause", "Pause"], ["resume", "Resume"],
  ["restart-as-new", "Restart"], ["purge", "Purge"]];

export function RunsPage() {
  const { query } = route.value;
  const statuses = query.getAll("status"), service = query.get("service") ?? "",
    handler = query.get("handler") ?? "", key = query.get("key") ?? "", needle = query.get("q") ?? "";
  const limit = Math.min(MOST, Number(query.get("limit")) || PAGE);
  const [found, setFound] = useState(/** @type {Api.Run[] | null} */ (null));
  const services = useServices();
  const [failed, setFailed] = useState("");
  const [chosen, setChosen] = useState(/** @type {Set<string>} */ (new Set()));
  const load = async () => {
    const asked = [...new Set(statuses.flatMap((one) => ASKED[one] ?? [one]))];
    const filters = new URLSearchParams({ limit: String(limit) });
    for (const [name, value] of [["service", service], ["handler", handler], ["key", key]]) if (value)
      filters.set(name, value);
    for (const one of asked) filters.append("status", one);
    try {
      setFound((await get(`/invocations?${filters}`)).invocations);
      setFailed("");
    } catch (error) {
      setFailed(error.message);
    }
  };
  useEffect(() => {
    document.title = "Invocations · agentdur";
  }, []);
  useEffect(() => poll(2.5, load), [query.toString()]);
  const rows = (found ?? []).filter((one) => (!statuses.length || statuses.includes(shown(one))) &&
    fits(one, needle));
  const picked = rows.filter((one) => chosen.has(one.id));
  const flip = (id) => () => {
    const next = new Set(chosen);
    next.has(id) ? next.delete(id) : next.add(id);
    setChosen(next);
  };
  const status = (name) => () => setQuery({ status: statuses.includes(name) ?
    statuses.filter((one) => one !== name) : [...statuses, name] });
  const act = async (name, title) => {
    const body = html`<ul class="plainlist small mono">${picked.slice(0, 8).map((one) =>
      html`<li>${short(one.id)} ${one.target} <${Status} run=${one} /></li>`)}${picked.length > 8 &&
      html`<li>and ${picked.length - 8} more</li>`}</ul>`;
    if (!(await ask({ title: `${title} ${plural(picked.length, "invocation")}?`, body,
      action: `${title} ${picked.length}`, danger: name !== "resume" }))) return;
    const done = await attempt(() => post(`/internal/invocations_batch_operations/${name}`, {
      invocation_ids: picked.map((one) => one.id) }));
    if (!done) return;
    say(`${done.succeeded.length} done${done.failed.length ?
      `, ${done.failed.length} not: ${done.failed[0].error}` : ""}`, done.failed.length > 0);
    setChosen(new Set());
    load();
  };
  const sweep = async (name, title) => {
    const filter = Object.fromEntries(Object.entries({ service, handler, key,
      status: statuses.flatMap((one) => ASKED[one] ?? [one]) }).filter(([, value]) => value.length));
    const asked = { action: name, filter, limit: MOST };
    const dry = await attempt(() => post("/invocations/batch", { ...asked, dry_run: true }));
    if (!dry) return;
    const n = `${dry.succeeded.length}${dry.after == null ? "" : " and more"}`;
    if (!(await ask({ title: `${title} all that fit: ${n}`, text: dry.failed.length ?
      `${dry.failed.length} would be refused: ${dry.failed[0].error}` :
      "Whatever fits these filters when it is done, also what is not on this page.", action: `${title} ${n}`,
      danger: true }))) return;
    let after = null, done = 0;
    do {
      const page = await attempt(() => post("/invocations/batch", { ...asked,
        ...(after == null ? {} : { after }) }));
      if (!page) break;
      done += page.succeeded.length;
      after = page.after;
    } while (after != null);
    say(`${done} done`);
    load();
  };
  const acts = may("operator");
  const handlers = services.find((one) => one.name === service)?.handlers ?? [];
  return html`<div class="stack">
    <div class="head"><h1>Invocations</h1><span class="grow"></span>
      <${Pick} label="Service" all="all services" value=${service} options=${services.map((one) => one.name)}
        onPick=${(one) => setQuery({ service: one, handler: "" })} />
      ${handlers.length > 0 && html`<${Pick} label="Handler" all="all handlers" value=${handler}
        options=${handlers.map((one) => one.name)} onPick=${(one) => setQuery({ handler: one })} />`}
      <input type="search" data-filter placeholder="Filter, or an id" aria-label="Filter" value=${needle}
        onInput=${(e) => setQuery({ q: e.target.value })} />
    </div>
    <div class="chips" role="group" aria-label="Status">${STATUSES.map((name) =>
      html`<button key=${name} class="chip is-${name}" aria-pressed=${String(statuses.includes(name))}
      onClick=${status(name)}>${word(name)}</button>`)}
      ${key && html`<button class="chip" aria-pressed="true"
        onClick=${() => setQuery({ key: "" })}>key ${key} ✕</button>`}
      ${acts && (service || key || statuses.length > 0) &&
        html`<select class="chip" aria-label="Act on all that fit" value=""
        onChange=${(e) => e.target.value && sweep(e.target.value, e.target.selectedOptions[0].text)}>
        <option value="">act on all that fit…</option>
        ${ACTIONS.map(([name, title]) => html`<option key=${name} value=${name}>${title}</option>`)}
        </select>`}</div>
    ${failed && html`<p class="note failed" role="alert">${failed}</p>`}
    ${picked.length > 0 && html`<div class="card pad row sticky"><b>${picked.length} chosen</b>
      ${ACTIONS.map(([name, title]) => html`<button key=${name}
      class=${["kill", "purge"].includes(name) ? "danger" : ""}
      onClick=${() => act(name, title)}>${title}…</button>`)}<span class="grow"></span>
      <button class="plain" onClick=${() => setChosen(new Set())}>none</button></div>`}
    ${found && !rows.length && html`<div class="card empty"><b>Nothing fits</b>${needle.startsWith("inv_") ?
      html`<a href=${href(`/invocations/${seg(needle)}`)}>Open ${short(needle)}</a>` : needle ?
      html`<a href=${href(`/search?q=${seg(needle)}`)}>Look for it in inputs, outputs and messages</a>` :
      "Change the filters, or start something."}</div>`}
    ${rows.length > 0 && html`<div class="card scroll"><table class="table stacks">
      <thead><tr>${acts && html`<th><input type="checkbox" aria-label="choose all" checked=${picked.length ===
        rows.length} onChange=${() => setChosen(picked.length === rows.length ? new Set() :
        new Set(rows.map((one) => one.id)))} /></th>`}<th>Status</th><th>Target</th><th>What it is about</th>
        <th class="right">Age</th><th class="right">Took</th></tr></thead>
      <tbody>${rows.map((one) => html`<${Row} key=${one.id} run=${one} chosen=${chosen.has(one.id)}
        flip=${acts && flip(one.id)} />`)}</tbody></table></div>`}
    ${found && found.length >= limit && limit < MOST &&
      html`<p><button onClick=${() => setQuery({ limit: MOST })}>Show ${MOST}</button></p>`}
  </div>`;
}

const fits = (/** @type {Api.Run} */ run, /** @type {string} */ needle) => !needle ||
  `${run.id} ${run.target} ${run.completion_failure ?? ""} ${run.last_failure?.message ??
  ""} ${run.idempotency_key ?? ""}`.toLowerCase().includes(needle.toLowerCase());

/** @param {{run: Api.Run, chosen: boolean, flip: any}} props */
function Row({ run, chosen, flip }) {
  const begun = ms(run.created_at), stop = ms(run.completed_at);
  return html`<tr>${flip && html`<td><input type="checkbox" aria-label=${`choose ${run.id}`}
    checked=${chosen} onChange=${flip} /></td>`}
    <td><${Status} run=${run} /></td>
    <td class="main"><a class="rowlink mono" href=${href(`/invocations/${run.id}`)}>${run.target}</a><br />
      <span class="small soft mono">${short(run.id)}</span></td>
    <td class="about small">${aboutRun(run)}</td>
    <td class="right nowrap num soft" title=${stamp(begun)}>${ago(begun)}</td>
    <td class="right nowrap num">${stop != null ? span(stop - begun) :
      html`<span class="soft">${span(now.value - begun)}</span>`}</td></tr>`;
}

/** In one line: what it waits for, what went wrong, or who called it. @param {Api.Run} run */
export function aboutRun(run) {
  if (run.completion_failure) return html`<span class="bad">${run.completion_failure}</span>`;
  if (run.status === "backing-off") return html`<span
    class="warn">attempt ${run.attempt} failed: ${run.last_failure?.message} · next try${" "}
    ${until(ms(run.next_retry_at))}</span>`;
  if (run.status === "paused") return html`<span
    class="warn">${run.last_failure ? `paused after: ${run.last_failure.message}` : "paused"}</span>`;
  if (run.status === "scheduled") return `starts ${until(ms(run.scheduled_start_at))}`;
  const waits = ended(run) ? "" : waitingWords(run);
  if (waits) return html`waiting for <b>${waits}</b>, <${Since}
    at=${ms(run.waiting_since ?? run.modified_at)} />`;
  if (run.restarted_from) return html`<span class="soft">restarted from ${short(run.restarted_from)}</span>`;
  return run.invoked_by_id ? html`<span class="soft">called by ${short(run.invoked_by_id)}</span>` : "";
}
