// What opens below a row: input and output, a model's turn, an approval, the child run; and what to do next.
import { html, useEffect, useState } from "../html.js";
import { get, patch, seg } from "../api.js";
import { needs } from "../me.js";
import { go, href } from "../router.js";
import { ms, span, stamp, until } from "../format.js";
import { attempt, ask } from "./ask.js";
import { ended } from "./status.js";
import { Value } from "./value.js";
import { ModelTurn } from "./llm.js";
import { ApprovalCard } from "./approval.js";
import { Child } from "./child.js";
import { askAgain, fork } from "./fork.js";

/** The whole payload of an entry. */
export const whole = (run, index) => async () =>
  (await get(`/invocations/${seg(run.id)}/entries/${index}`)).value;

/** @typedef {import("./journal.js").Step} Step */
/** @typedef {import("../live.js").Run} Run */

/** @param {{step: Step, run: Run, about: Api.Run, scale: any, depth: number, error: any}} props */
export function Detail({ step, run, about, scale, depth, error }) {
  return html`<div class="detail">
    ${error && html`<${Failure} failure=${error} title=${`attempt ${about.attempt} failed`}
      about=${about} />`}
    ${step.failure && html`<${Failure} failure=${step.failure} title="failed" />`}
    <${Body} step=${step} run=${run} about=${about} scale=${scale} depth=${depth} />
    <div class="row small soft foot">
      <span class="num">entry ${step.index}${step.endIndex != null && step.endIndex !== step.index ?
        ` → ${step.endIndex}` : ""}</span>
      <span>${stamp(step.at)}</span>
      ${step.end != null && step.end > step.at && html`<span>took ${span(step.end - step.at)}</span>`}
      ${step.branch && html`<span>branch <code>${step.branch}</code></span>`}
      <span class="grow"></span>
      <${Restart} step=${step} run=${run} about=${about} />
    </div>
  </div>`;
}

/** @param {{step: Step, run: Run, about: Api.Run, scale: any, depth: number}} props */
function Body({ step, run, about, scale, depth }) {
  switch (step.type) {
    case "llm": return step.meta ? html`<${ModelTurn} step=${step} run=${run} />` :
      html`<${Talk} step=${step} run=${run} />`;
    case "approval": return html`<${Approval} step=${step} />`;
    case "call": case "send":
      return html`<div class="cols">
          <${Part} title="Input" value=${step.given} load=${whole(run, step.index)} />
          ${step.type === "call" && step.value !== undefined &&
            html`<${Part} title="Answer" value=${step.value} load=${whole(run, step.endIndex)} />`}
        </div>
        ${step.child && html`<${Child} id=${step.child} scale=${scale} depth=${depth + 1} />`}`;
    case "tool":
      return html`<div class="cols">
        ${step.given !== undefined && html`<${Part} title="Arguments" value=${step.given} />`}
        <${Part} title="Answer" value=${step.value?.content ?? step.value} load=${async () =>
          unwrap(await whole(run, step.endIndex)())} />
      </div>`;
    case "sleep": return html`<p>Wakes ${step.end ? "at" :
      until(ms(step.row.wake_at))} ${stamp(ms(step.row.wake_at))}</p>`;
    case "state": return html`<${Part} title="Value"
      value=${step.kind === "SetState" ? step.given : step.value}
      load=${whole(run, step.kind.includes("Lazy") ? step.endIndex : step.index)} />`;
    case "promise": return html`<p>${step.state === "open" ? "Waits until somebody resolves it." : ""}</p>
      <${Part} title="Value" value=${step.value} load=${whole(run, step.endIndex)} />`;
    default: {
      const at = step.endIndex ?? step.index;
      return html`${step.row.signal != null && step.kind === "SendSignal" &&
        html`<p>To <a href=${href(`/invocations/${step.row.invocation_id}`)}>${step.row.invocation_id}</a>
        </p>`}
        <${Part} title=${step.type === "input" ? "Input" : "Value"} value=${step.value}
          load=${whole(run, at)} />
        ${step.meta && html`<${Part} title="Noted" value=${step.meta} />`}`;
    }
  }
}

const unwrap = (value) => value?.content ?? value;

export const Part = ({ title, value, load }) =>
  html`<div class="stack tight"><h3>${title}</h3><${Value} value=${value} load=${load} label=${title} />
  </div>`;

function Talk({ step, run }) {
  const said = run.talk.value.get(step.row.completion_id);
  return said ? html`<div class="bubble assistant talk">${said}</div>` :
    html`<p class="soft">The model has not answered yet.</p>`;
}

function Approval({ step }) {
  const [record, setRecord] = useState(/** @type {Api.Approval | null} */ (null));
  const load = () => get(`/approvals/${seg(step.approval)}`).then(setRecord, () => setRecord(kept(step)));
  useEffect(() => {
    if (step.approval) load();
  }, [step.approval, step.state]);
  if (!step.approval) return html`<p class="soft">It waits for a decision.</p>`;
  return record ? html`<${ApprovalCard} record=${record} onDecided=${load} bare />` :
    html`<p class="soft">…</p>`;
}

/** An approval that the server keeps no longer: what the journal says of it. */
function kept(step) {
  const said = step.verdict ?? {};
  return { ...step.asked, id: step.approval, status: step.state === "open" ? "withdrawn" : said.approved ?
    "approved" : "rejected", ...said, decided_at: said.at };
}

export function Failure({ failure, title, about }) {
  return html`<div class="note ${about ? "retrying" : "failed"}">
    <div class="grow stack tight">
      <p><b>${title}${failure.code ? ` · ${failure.code}` : ""}</b>${about?.next_retry_at ?
        html` · next try ${until(ms(about.next_retry_at))}` : ""}</p>
      <p class="mono">${failure.message}</p>
      <${Attempts} of=${about?.failed_attempts} />
      ${failure.metadata && html`<details><summary>facts</summary>
        <${Value} value=${failure.metadata} label="facts" /></details>`}
      ${failure.stacktrace && html`<details><summary>stack trace</summary>
        <${Value} value=${failure.stacktrace} label="stack trace" /></details>`}
    </div>
  </div>`;
}

/** Every attempt that failed, newest first. */
export function Attempts({ of: all }) {
  if (!all || all.at(-1).number < 2) return null;
  const last = all.at(-1).number, gone = all[0].number - 1;
  return html`<details><summary>${last} attempts failed</summary><ol class="attempts small">
    ${all.toReversed().map((one) => html`<li key=${one.number}>
      <span class="num">attempt ${one.attempt}</span> · <span class="num">${stamp(ms(one.ended_at))}</span>
      ${one.started_at && html` · <span class="num">${span(ms(one.ended_at) - ms(one.started_at))}</span>`}
      ${[one.deployment, one.node].map((place) => place && html` · <code>${place}</code>`)}${" "}
      <span class="mono">${one.message}</span></li>`)}
    ${gone > 0 && html`<li class="soft">The first ${gone} are not kept.</li>`}
  </ol></details>`;
}

const RESTS = ["suspended", "paused"];

/** @param {{step: Step, run: Run, about: Api.Run}} props */
function Restart({ step, run, about }) {
  const over = ended(about);
  if (!(over || RESTS.includes(about.status)) || step.type === "output" ||
    about.target_service_ty === "Workflow") return null;
  const from = step.endIndex ?? step.index;
  const restart = async () => {
    const yes = await ask({ title: "Restart from this row",
      text: `A new invocation keeps entries 0 to ${from} and runs on from there. This one stays as it is.`,
      action: "Restart" });
    const made = yes &&
      (await attempt(() => patch(`/invocations/${seg(run.id)}/restart-as-new?from=${from}`)));
    if (made) go(`/invocations/${made.new_invocation_id}`);
  };
  const edits = step.type === "input" || (["Run", "Call"].includes(step.kind) && step.state === "ok");
  return html`${over && html`<button ...${needs("operator")} onClick=${restart}>Restart from here</button>`}
    ${step.type === "llm" && html`<button ...${needs("operator", true)}
      onClick=${() => askAgain(run, step)}>Ask again…</button>`}
    ${edits && html`<button ...${needs("operator", true)}
      onClick=${() => fork(run, step, whole(run, from))}>Edit and fork…</button>`}`;
}
