// What a run waits for, in words, and what can be done about it here.
import { html, useEffect, useState } from "../html.js";
import { get, post, seg } from "../api.js";
import { needs } from "../me.js";
import { href } from "../router.js";
import { ago, clock, ms, now, span, stamp, until } from "../format.js";
import { ask, attempt } from "./ask.js";
import { ApprovalCard } from "./approval.js";

/** `approval/apr_…/secret` → the approval's id. */
export const approvalOf = (text) => /^signal approval\/(apr_[a-z0-9]+)\//.exec(text)?.[1] ?? null;
export const numberOf = (text) => /^awakeable (\d+)$/.exec(text)?.[1] ?? null;

const DAY_MS = 86_400_000;

/** One line for lists. @param {Api.Run} run */
export function waitingWords(run) {
  const all = run.waiting_for ?? [];
  if (!all.length) return "";
  const approvals = all.filter(approvalOf).length;
  if (approvals) return approvals > 1 ? `${approvals} approvals` : "approval";
  const [first] = all;
  return first.startsWith("completion") ? (all.length > 1 ? `${all.length} results` : "a result") : first;
}

/** Since when, and how long that is. */
export const Since = ({ at }) => html`<span class="nowrap num" title=${stamp(at)}>since ${
  now.value - at > DAY_MS ? stamp(at) : clock(at)} (${span(now.value - at)})</span>`;

/** Everything a run waits for, with its journal at hand. */
export function Waiting({ run, about }) {
  const all = about.waiting_for ?? [];
  if (!all.length || about.status === "completed") return null;
  return html`<div class="stack tight">${all.map((one) => html`<${One} key=${one} text=${one} run=${run}
    about=${about} />`)}</div>`;
}

/** @param {{text: string, run: import("../live.js").Run, about: Api.Run}} props */
function One({ text, run, about }) {
  const approval = approvalOf(text), number = numberOf(text);
  const since = ms(about.waiting_since ?? about.modified_at);
  if (approval) return html`<${Asked} id=${approval} />`;
  if (number) {
    return html`<${Answerable} path=${signalPath(run.id, number)} title=${`awakeable ${number}`}
      since=${since} />`;
  }
  if (text.startsWith("signal ")) {
    return html`<${Answerable} path=${signalPath(run.id, text.slice(7))} title=${text} since=${since} />`;
  }
  const step = run.journal.byCompletion.get(Number(text.split(" ")[1]));
  if (!step || about.status === "backing-off") return null;
  if (step.type === "sleep") {
    return html`<p class="note suspended"><span class="grow">
      <b>Sleeps</b>${step.name && ` “${step.name}”`}, wakes ${until(ms(step.row.wake_at))}</span></p>`;
  }
  if (step.type === "call" && step.child) {
    return html`<p class="note suspended"><span class="grow"><b>Waiting for</b>${" "}
      <a href=${href(`/invocations/${step.child}`)}>${step.row.service}.${step.row.handler}</a>,
      ${" "}called ${ago(step.at)}</span></p>`;
  }
  if (step.type === "promise") {
    const path = promisePath(about, step);
    return html`<${Answerable} path=${path} title=${`promise “${step.row.key}”`} since=${step.at} />`;
  }
  return null;
}

/** A question, with its answers in place. */
export function Asked({ id }) {
  const [record, setRecord] = useState(/** @type {Api.Approval | null} */ (null));
  const load = () => get(`/approvals/${seg(id)}`).then(setRecord, () => {});
  useEffect(() => {
    load();
  }, [id]);
  return record && html`<${ApprovalCard} record=${record} onDecided=${load} bare=${false} />`;
}

/** Where a promise of this run's workflow is completed. */
export const promisePath = (about, step) =>
  `/services/${seg(about.target_service_name)}/promises/${seg(step.row.key)}` +
  `?object_key=${seg(about.target_service_key ?? "")}`;

const signalPath = (id, name) => `/invocations/${seg(id)}/signals/${seg(name)}`;

/** What a person may complete: a signal, an awakeable, a promise. */
export function Answerable({ title, since, path }) {
  const resolve = async () => {
    const fields = [{ name: "value", label: "Value (JSON)", rows: 5, json: true, value: "null" }];
    const said = await ask({ title: `Resolve ${title}`, fields, action: "Resolve" });
    if (said) attempt(() => post(path, { value: said.value }), "Resolved.");
  };
  const reject = async () => {
    const fields = [{ name: "failure", label: "Message" }];
    const said = await ask({ title: `Reject ${title}`, fields, action: "Reject", danger: true });
    if (said) attempt(() => post(path, { failure: said.failure }), "Rejected.");
  };
  return html`<div class="note suspended">
    <span class="grow"><b>Waiting for</b> ${title}, <${Since} at=${since} /></span>
    <button ...${needs("operator")} onClick=${resolve}>Resolve…</button>
    <button class="danger" ...${needs("operator")} onClick=${reject}>Reject…</button>
  </div>`;
}
