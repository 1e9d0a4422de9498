// A question for a person: what is asked, and Approve, Edit, Reject in place.
import { html, useState } from "../html.js";
import { post, seg } from "../api.js";
import { href } from "../router.js";
import { ago, cut, ms, redacted, said as worded, short, stamp, until } from "../format.js";
import { mayOn, me, needs } from "../me.js";
import { ask, attempt } from "./ask.js";
import { Fact } from "./llm.js";
import { Value, asText } from "./value.js";

const NAME = "agentdur.by";
/** Who decides: what was said the last time. */
export const decider = () => me.value?.name ?? localStorage.getItem(NAME) ?? "";

const STATES = { pending: "suspended", approved: "succeeded", rejected: "failed", withdrawn: "pending" };

/** Decide one. @param {"approve" | "reject"} how */
export async function decide(record, how, said) {
  if (said.by) localStorage.setItem(NAME, said.by);
  return attempt(() => post(`/approvals/${seg(record.id)}/${how}`, { digest: record.digest, ...said }),
    how === "approve" ? "Approved." : "Rejected.");
}

const BY = { name: "by", label: "Your name" }, WHY = { name: "reason", label: "Reason (optional)", rows: 2 };

/**
 * @param {{record: Api.Approval, onDecided?: (done: any) => void, bare?: boolean, selected?: boolean,
 *   onSelect?: () => void}} props
 */
export function ApprovalCard({ record, onDecided, bare, selected, onSelect }) {
  const [busy, setBusy] = useState(false);
  const pending = record.status === "pending", question = worded(record.question);
  const act = async (how, said) => {
    setBusy(true);
    const done = await decide(record, how, said);
    setBusy(false);
    if (done) onDecided?.(done);
  };
  const approve = () => act("approve", { by: decider() });
  const reject = async () => {
    const said = await ask({ title: "Reject", text: question,
      fields: [{ ...BY, value: decider() }, WHY], action: "Reject", danger: true });
    if (said) act("reject", said);
  };
  const edit = async () => {
    const said = await ask({
      title: "Approve an edited version", text: question, action: "Approve edited",
      fields: [{ name: "payload", label: "Payload (JSON)", rows: 10, json: true,
        value: asText(record.payload) }, { ...BY, value: decider() }, WHY],
    });
    if (said) act("approve", said);
  };
  const may = needs("operator", true);
  return html`<article class="approval ${bare ? "" : "card pad"}">
    <div class="row">
      ${onSelect && pending && mayOn("operator") && html`<input type="checkbox"
        aria-label=${`select ${question}`}
        checked=${selected} onChange=${onSelect} />`}
      <span class="status is-${STATES[record.status] ?? "unknown"}">${pending ? "waiting for you" :
        record.status}</span>
      ${record.tool && html`<span class="tag">tool ${record.tool}</span>`}
      <span class="soft small">asked ${ago(ms(record.asked_at))}</span>
      <${Deadline} record=${record} />
      <span class="grow"></span>
      ${!bare && html`<a class="small mono"
        href=${href(`/invocations/${seg(record.invocation)}`)}>
        ${record.service} · ${short(record.invocation)}</a>
        <a class="small" href=${href(`/approvals/${seg(record.id)}`)}>permalink</a>`}
    </div>
    <p class="question">${question}</p>
    ${record.payload != null && html`<${Asks} record=${record} />`}
    ${pending
      ? html`<div class="row">
          <button class="good" disabled=${busy} ...${may} onClick=${approve}>Approve</button>
          <button disabled=${busy} ...${may} onClick=${edit}>Edit…</button>
          <button class="danger" disabled=${busy} ...${may} onClick=${reject}>Reject…</button>
        </div>`
      : html`<${Verdict} record=${record} />`}
  </article>`;
}

const FACTS_MOST = 12, CHARS_MOST = 200;
const plain = (one) => one === null || ["number", "boolean"].includes(typeof one) ||
  (typeof one === "string" && one.length <= CHARS_MOST);

/**
 * What it is about, in words where it is flat; of a tool its arguments.
 * @param {{record: Api.Approval}} props
 */
function Asks({ record }) {
  const { payload } = record, given = record.tool ? payload.arguments : undefined;
  const about = given && typeof given === "object" ? given : payload;
  const facts = typeof about === "object" && !Array.isArray(about) && !redacted(about) && !cut(about) ?
    Object.entries(about) : [];
  if (!facts.length || facts.length > FACTS_MOST || !facts.every(([, one]) => plain(one)))
    return html`<${Value} value=${about} label="payload" />`;
  return html`<dl class="facts asks">${facts.map(([name, one]) =>
    html`<${Fact} key=${name} name=${name} value=${one === "" ? "(empty)" : String(one)} />`)}</dl>`;
}

/** @param {{record: Api.Approval}} props */
function Deadline({ record }) {
  const at = ms(record.deadline);
  if (at == null || record.status !== "pending") return null;
  return html`<span class="small soft" title=${stamp(at)}>decides itself ${until(at)} (${record.default ?
    "approved" : "rejected"})</span>`;
}

/** @param {{record: Api.Approval}} props */
function Verdict({ record }) {
  const who = record.status === "withdrawn" ? "Withdrawn: who asked has ended" : record.timed_out ?
    "Nobody decided in time" : `${record.status === "approved" ? "Approved" : "Rejected"} by ${record.by ||
    "somebody"}`;
  return html`<p class="small">${who}${record.decided_at ?
    html`, <span title=${stamp(ms(record.decided_at))}>${ago(ms(record.decided_at))}</span>` :
    ""}${record.reason ? html`: <q>${worded(record.reason)}</q>` : ""}</p>
    ${record.edited && html`<h3>Edited to</h3>
      <${Value} value=${record.edited_payload ?? record.payload} label="edited payload" />`}`;
}
