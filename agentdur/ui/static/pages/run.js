// One run: what it is, what it waits for, what went wrong, what can be done, and its journal.
import { html, useEffect, useMemo } from "../html.js";
import { patch, seg } from "../api.js";
import { needs } from "../me.js";
import { go, href, route, setQuery } from "../router.js";
import { ago, count, money, ms, now, short, span, stamp, until } from "../format.js";
import { ask, attempt } from "../parts/ask.js";
import { RunBudgets } from "../parts/budgets.js";
import { Failure } from "../parts/detail.js";
import { Edits } from "../parts/fork.js";
import { Fact } from "../parts/llm.js";
import { Status, ended } from "../parts/status.js";
import { Timeline } from "../parts/timeline.js";
import { AgentTree } from "../parts/tree.js";
import { Waiting } from "../parts/waiting.js";
import { Run } from "../live.js";

export function RunPage({ id }) {
  const run = useMemo(() => new Run(id), [id]);
  useEffect(() => run.follow(), [run]);
  const about = run.about.value, error = run.error.value, version = run.version.value;
  useEffect(() => {
    document.title = about ? `${about.target} · agentdur` : "agentdur";
  }, [about?.target]);
  if (!about) {
    return error
      ? html`<div class="card empty"><b>${error.status === 404 ? "No such run" :
        "This run cannot be shown"}</b>${error.message}</div>`
      : html`<p class="soft" aria-busy="true">…</p>`;
  }
  return html`<div class="stack">
    <${Head} run=${run} about=${about} version=${version} />
    <${Troubles} about=${about} id=${id} />
    <${Waiting} run=${run} about=${about} />
    <${Edits} journal=${run.journal} over=${ended(about)} version=${version} />
    <${RunBudgets} journal=${run.journal} version=${version} over=${ended(about)} />
    <${Views} />
    ${route.value.query.get("view") === "agents"
      ? html`<${AgentTree} run=${run} about=${about} version=${version} />`
      : html`<${Timeline} run=${run} about=${about} version=${version} />`}
  </div>`;
}

function Views() {
  const view = route.value.query.get("view") ?? "";
  return html`<div class="segments views" role="group" aria-label="View">
    ${[["", "Journal"], ["agents", "Agents"]].map(([name, text]) => html`<button key=${name}
      aria-pressed=${String(view === name)}
      onClick=${() => setQuery({ view: name }, { replace: false })}>${text}</button>`)}</div>`;
}

/** @param {{run: Run, about: Api.Run, version: number}} props */
function Head({ run, about }) {
  const over = ended(about), begun = ms(about.created_at);
  const { sums, children } = run.journal;
  const long = (ms(about.completed_at) ?? now.value) - begun;
  const keyed = about.target_service_key != null;
  return html`<div class="stack tight">
    <div class="head">
      <div class="grow">
        <p class="small soft mono crumbs"><a href=${href("/invocations")}>invocations</a> / ${about.id}
          <button class="icon" aria-label="copy id" onClick=${() =>
            navigator.clipboard?.writeText(about.id)}>copy</button></p>
        <h1><a class="ink" href=${href(`/services/${seg(about.target_service_name)}`)}>
          ${about.target_service_name}</a>${keyed && html`<span class="soft"> / </span>
          <a class="ink"
          href=${href(`/objects/${seg(about.target_service_name)}/${seg(about.target_service_key ?? "")}`)}>
          ${about.target_service_key}</a>`}<span class="soft"> / </span>${about.target_handler_name}</h1>
      </div>
      ${!over && run.live.value && html`<span class="live">LIVE</span>`}
      <${Status} run=${about} />
    </div>
    <div class="row between">
      <dl class="facts">
        <${Fact} name="Started" value=${html`<span title=${stamp(begun)}>${ago(begun)}</span>`} />
        <${Fact} name=${over ? "Took" : "Running for"} value=${span(long)} />
        <${Fact} name="Attempts" value=${about.attempt > 1 ? about.attempt : null} />
        <${Fact} name="Model calls" value=${sums.calls ? `∑ ${sums.calls}` : null} />
        <${Fact} name="Tokens" value=${sums.calls ? `${count(sums.prompt)} in, ${count(sums.completion)} out`
          : null} />
        <${Fact} name="Cost" value=${money(sums.cost)} />
        <${Fact} name="Children" value=${children.length || null} />
        <${Fact} name="Called by" value=${about.invoked_by_id ?
          html`<a class="mono" href=${href(`/invocations/${about.invoked_by_id}`)}>
          ${short(about.invoked_by_id)}</a>` : about.invoked_by} />
        <${Fact} name="Restarted from" value=${about.restarted_from &&
          html`<a class="mono" href=${href(`/compare?a=${about.restarted_from}&b=${about.id}`)}>
          ${short(about.restarted_from)}</a>`} />
        <${Fact} name="Starts" value=${about.status === "scheduled" ? until(ms(about.scheduled_start_at)) :
          null} />
        <${Fact} name="Deployment" value=${about.deployment_id && html`<a class="mono"
          href=${href(`/deployments/${seg(about.deployment_id)}`)}>${short(about.deployment_id)}</a>`} />
        <${Fact} name="Forgotten" value=${about.kept_until &&
          html`<span title=${stamp(ms(about.kept_until))}>${until(ms(about.kept_until))}</span>`} />
      </dl>
      <${Actions} about=${about} />
    </div>
  </div>`;
}

/** What may be done in which status. */
const CAN = {
  resume: ["paused", "backing-off", "suspended"], pause: ["running", "ready", "backing-off"],
  cancel: ["running", "ready", "backing-off", "suspended", "paused", "pending", "scheduled"],
  kill: ["running", "ready", "backing-off", "suspended", "paused", "pending", "scheduled"],
};
const WORDS = {
  cancel: ["Cancel", "It is asked to end: its next wait raises, and its compensations run.", "Cancelled."],
  kill: ["Kill", "It ends at once, with all it called. Nothing is compensated.", "Killed."],
  pause: ["Pause", "", "Paused."], resume: ["Resume", "", "Resumed."],
};

/** @param {{about: Api.Run}} props */
function Actions({ about }) {
  const path = `/invocations/${seg(about.id)}`;
  const act = async (name) => {
    const [title, text, done] = WORDS[name];
    if (text && !(await ask({ title: `${title} this run?`, text, action: title, danger: true }))) return;
    await attempt(() => patch(`${path}/${name}`), done);
  };
  const restart = async () => {
    const made = await attempt(() => patch(`${path}/restart-as-new`));
    if (made) go(`/invocations/${made.new_invocation_id}`);
  };
  const shown = ["resume", "pause", "cancel", "kill"].filter((name) => CAN[name].includes(about.status));
  return html`<div class="row actions">
    ${shown.map((name) => html`<button key=${name} class=${name === "kill" ? "danger" : ""}
      ...${needs("operator")} onClick=${() => act(name)}>${name === "resume" &&
      about.status === "backing-off" ? "Retry now" : WORDS[name][0]}</button>`)}
    ${ended(about) && about.target_service_ty !== "Workflow" &&
      html`<button ...${needs("operator")} onClick=${restart}>Restart as new</button>`}
  </div>`;
}

/** @param {{about: Api.Run, id: string}} props */
function Troubles({ about, id }) {
  if (about.completion_failure) return html`<div
    class="note failed"><div class="grow"><b>Failed</b> <span class="mono">${about.completion_failure}</span>
    </div></div>`;
  if (about.status === "paused") return html`<div
    class="note paused"><div class="grow"><b>Paused</b>${about.last_failure ?
    html` after attempt ${about.attempt} failed: <span class="mono">${about.last_failure.message}</span>` :
    " by an operator"}. It goes on when it is resumed.</div></div>`;
  if (about.status === "backing-off" && about.last_failure) {
    return html`<${Failure} failure=${about.last_failure} title=${`Attempt ${about.attempt} failed`}
      about=${about} />`;
  }
  if (about.status === "pending") return html`<div
    class="note idle"><div class="grow"><b>Queued</b> behind the invocation that holds this key: <a
    href=${href(`/objects/${seg(about.target_service_name)}/${seg(about.target_service_key ??
    "")}`)}>see lock and inbox</a></div></div>`;
  return null;
}
