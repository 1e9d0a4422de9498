// Start again from a row, with something else in its place, and look at both runs.
import { html } from "../html.js";
import { get, post, seg } from "../api.js";
import { go, href } from "../router.js";
import { cut, short } from "../format.js";
import { ask, attempt } from "./ask.js";
import { Diff } from "./diff.js";
import { asText } from "./value.js";

const SAID_BY = ["system", "developer", "user", "tool"];
const path = (run) => `/invocations/${seg(run.id)}`;

async function begin(run, body) {
  const made = await attempt(() => post(`${path(run)}/fork`, body));
  if (made) go(`/compare?a=${run.id}&b=${made.new_invocation_id}`);
}

/** With another value: the input, or what a step or a call answered. */
export async function fork(run, step, load) {
  const value = await attempt(load);
  if (value === undefined) return;
  const from = step.type === "input" ? step.index : step.endIndex;
  const said = await ask({
    title: step.type === "input" ? "Run again with another input" : "Run on with another result",
    text: "A new invocation keeps the journal up to this row, with this value in it. This one stays.",
    fields: [{ name: "value", label: "Value (JSON)", rows: 12, json: true, value: value === true ? "null" :
      asText(JSON.stringify(value, null, 2)) }],
    action: "Fork",
  });
  if (said) await begin(run, { from, edits: { [from]: said.value } });
}

/** A model's turn, asked anew: with another model, another prompt, other words of anybody but the model. */
export async function askAgain(run, step) {
  const { meta } = step;
  const before = (meta?.why === "budget" && meta.asked) || meta?.request_model || meta?.model || "";
  let told = [];
  if (meta?.conversation && !meta.framework) {
    const found = await attempt(() => get(`/conversations/${seg(meta.conversation)}`));
    if (found === undefined) return;
    told = found.messages.map((message, at) => ({ ...message, at })).filter(({ role, content }) =>
      SAID_BY.includes(role) && typeof content === "string");
  }
  const said = await ask({
    title: "Ask this turn again",
    text: "A new invocation keeps all before this turn, and runs on from it. What is changed here holds " +
      "for its later turns, too. This one stays as it is." + (meta?.framework ?
      ` What the model is told is ${meta.framework}'s: edit the input, or a result.` : ""),
    fields: [
      { name: "model", label: "Model", value: before },
      ...told.map(({ role, content, at }) => ({ name: `m${at}`, label: `${role} (message ${at})`,
        rows: Math.min(9, Math.max(2, Math.ceil(content.length / 70))), value: content })),
    ],
    action: "Fork",
  });
  if (!said) return;
  const turn = {}, other = told.filter(({ at, content }) => said[`m${at}`] !== content);
  if (said.model.trim() && said.model !== before) turn.model = said.model.trim();
  if (other.length) turn.messages = Object.fromEntries(other.map(({ at }) => [at, said[`m${at}`]]));
  await begin(run, turn.model || turn.messages ? { turns: { [step.index]: turn } } :
    { from: step.index - 1 });
}

const shownText = (value) => (cut(value) ? `${value.preview}…` : asText(value));

/**
 * What a fork does otherwise.
 * @param {{journal: any, over: boolean, version: number}} props `over`: it has ended
 */
export function Edits({ journal, over }) {
  const edits = journal.steps[0]?.row.edits ?? [];
  if (!edits.length) return null;
  const used = new Set(journal.steps.flatMap((step) =>
    Array.isArray(step.meta?.edited) ? step.meta.edited : []));
  return html`<section class="card"><header><h2>Edited</h2></header>
    <ul class="pad plainlist edits">${edits.map((edit, i) => html`<li key=${i}>
      <${One} edit=${edit} />
      ${edit.what !== "value" && !used.has(i) && html`<p class="note ${over ? "failed" : "idle"} small"
        role=${over ? "alert" : null}>${over ?
        "This edit was never used: the run did not come to where it would be told." :
        "Not used yet."}</p>`}</li>`)}</ul></section>`;
}

function One({ edit }) {
  const where = html`<a class="mono" href=${href(`/invocations/${edit.of}`)}>${short(edit.of)}</a> entry
    <span class="num"> ${edit.entry}</span>`;
  if (edit.what === "value")
    return html`<p>Another ${edit.entry === 0 ? "input" : "result"}, of ${where}</p>`;
  if (edit.what === "model") return html`<p><b>${edit.step}</b> asks <code>${edit.model}</code>${edit.told &&
    html` instead of <code>${edit.told}</code>`}, from ${where} on</p>`;
  const before = edit.told?.content ?? edit.told;
  return html`<p>The ${edit.role} message of <b>${edit.step}</b>, from ${where} on</p>
    <details><summary>what it says</summary>
      <${Diff} left=${shownText(before)} right=${shownText(edit.content)} /></details>`;
}
