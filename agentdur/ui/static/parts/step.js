// One row of the journal, and what opens below it.
import { Component, html } from "../html.js";
import { count, line, money, ms, now, span, until } from "../format.js";
import { ended } from "./status.js";
import { words } from "./journal.js";
import { Detail } from "./detail.js";

const GLYPHS = {
  input: "→", output: "↩", llm: "✦", tool: "⚒", run: "ƒ", call: "⤷", send: "⇢", sleep: "◷",
  state: "▤", promise: "◇", signal: "⚑", approval: "☑", cancel: "✕", attach: "⧉",
};
/** Rows that are open, of all runs on the page. */
const opened = new Set();

/** @typedef {import("./journal.js").Step} Entry */

/**
 * The tone of a bar: what the step came to, or what its run does meanwhile.
 * @param {Entry} step @param {Api.Run} about
 */
export function tone(step, about) {
  if (step.state === "failed") return "failed";
  if (step.state === "refused") return "refused";
  if (step.state === "ok") return step.type === "llm" ? "llm" : step.type === "tool" ? "tool" : "ok";
  if (ended(about)) return "void";
  if (about.status === "backing-off" && trouble(step, about)) return "retrying";
  if (["backing-off", "suspended", "paused"].includes(about.status) || step.type === "approval" ||
    step.type === "sleep") return "suspended";
  return "running";
}

/**
 * What one step that has not ended is about: the error of its last attempt.
 * @param {Entry} step @param {Api.Run} about
 */
export function trouble(step, about) {
  if (ended(about) || !about.last_failure ||
    !["backing-off", "running", "paused", "ready"].includes(about.status)) return null;
  const place = about.last_failure_entry;
  if (place != null && (place === step.index || place === step.endIndex)) return about.last_failure;
  return null;
}

export class Step extends Component {
  constructor(props) {
    super(props);
    this.key = `${props.run.id}/${props.step.index}`;
    this.state = { open: opened.has(this.key) };
    this.toggle = () => {
      const open = !this.state.open;
      opened[open ? "add" : "delete"](this.key);
      this.setState({ open });
    };
  }
  shouldComponentUpdate(next, state) {
    const mine = this.props;
    return next.stamp !== mine.stamp || next.scale !== mine.scale || state.open !== this.state.open ||
      (next.about !== mine.about && (next.step.state === "open" || state.open ||
      next.about.status !== mine.about.status));
  }
  render({ step, scale, about, run, depth }, { open }) {
    const error = trouble(step, about);
    const [verb, what] = words(step);
    return html`<div class="step" role="listitem" data-type=${step.type} data-index=${step.index}>
      <div class="line" style=${depth ? { "--depth": depth } : null}>
        <button class="code" aria-expanded=${String(open)} onClick=${this.toggle}>
          <span class="glyph g-${step.type === "output" && step.failure ? "cancel" : step.type}"
            aria-hidden="true">${GLYPHS[step.type]}</span>
          <span class="words"><b class="verb v-${step.type}">${verb}</b>${what !== "" &&
            html`<span class="arg">${what}</span>`}</span>
          <${Came} step=${step} run=${run} about=${about} error=${error} />
        </button>
        <${Bar} step=${step} scale=${scale} about=${about} error=${error} />
      </div>
      ${error && !open &&
        html`<p class="row-error">attempt ${about.attempt}: ${error.message}${about.next_retry_at ?
        html` · <${Countdown} at=${ms(about.next_retry_at)} />` : ""}</p>`}
      ${open && html`<${Detail} step=${step} run=${run} about=${about} scale=${scale} depth=${depth}
        error=${error} />`}
    </div>`;
  }
}

const Countdown = ({ at }) => html`<span>next try ${until(at)}</span>`;

/**
 * What came back, in one line.
 * @param {{step: Entry, run: import("../live.js").Run, about: Api.Run, error: any}} props
 */
function Came({ step, run, about, error }) {
  const said = run.talk.value.get(step.row.completion_id ?? -1);
  if (step.state === "open" && said) return html`<span class="came talk">${said.slice(-200)}</span>`;
  if (step.type === "llm" && step.state === "ok") return html`<span class="came">${answerLine(step)}</span>
    <span class="chips-end"><${Cost} meta=${step.meta} /></span>`;
  if (step.type === "approval") return html`<span class="came">${verdictLine(step)}</span>`;
  if (step.state === "failed") return html`<span class="came bad">${step.failure?.message}</span>`;
  if (step.state === "open") return html`<span
    class="came soft">${error ? "" : ended(about) ? "not finished" : step.row.wake_at ?
    `wakes ${until(ms(step.row.wake_at))}` : "…"}</span>`;
  const shown = step.type === "state" && step.kind === "SetState" ? step.given : step.type === "tool" ?
    step.value?.content ?? step.value : step.value;
  if (shown === undefined || shown === null) return html`<span class="came soft"></span>`;
  return html`<span class="came"><span class="arrow" aria-hidden="true">→</span> ${typeof shown === "string"
    && step.type === "tool" ? shown.slice(0, 200) : line(shown)}</span>`;
}

export function answerLine(/** @type {Entry} */ step) {
  const message = step.value?.message;
  const calls = message?.tool_calls ?? [];
  if (calls.length)
    return `→ ${calls.map((c) => `${c.function?.name}(${brief(c.function?.arguments)})`).join(", ")}`;
  if (typeof message?.content === "string") return message.content.slice(0, 220);
  return line(step.value);
}

const brief = (text) => (text && text.length > 46 ? `${text.slice(0, 46)}…` : text ?? "");

export function verdictLine(/** @type {Entry} */ step) {
  const said = step.verdict;
  if (!said) return step.state === "open" ? "waiting for a decision" : "decided";
  const who = said.timed_out ? "nobody decided in time" :
    `${said.approved ? "approved" : "rejected"}${said.by ? ` by ${said.by}` : ""}`;
  return `${who}${said.edited ? ", edited" : ""}${said.reason ? `: ${said.reason}` : ""}`;
}

export function Cost({ meta }) {
  if (!meta) return null;
  return html`<span class="tag num" title="tokens in, tokens out">
    ${meta.model} · ${count(meta.prompt_tokens)}→${count(meta.completion_tokens)}</span>
    ${meta.cost != null && html`<span class="tag num cost">${money(meta.cost)}</span>`}`;
}

/** @param {{step: Entry, scale: any, about: Api.Run, error: any}} props */
function Bar({ step, scale, about, error }) {
  const kind = tone(step, about);
  const future = kind === "retrying" && error;
  const stop = step.end ?? (ended(about) ? step.at : Math.min(now.peek(), scale.end));
  const left = scale.x(step.at), right = scale.x(stop);
  const wide = Math.max(0, right - left);
  const point = step.end === step.at || wide < 0.002;
  const label = future ? "" : step.end != null && step.end - step.at >= 1 ? span(step.end - step.at) :
    step.state === "open" && !ended(about) ? span(now.peek() - step.at) : "";
  const side = right > 0.8 ? (left > 0.16 ? { right: `${(1 - left) * 100}%`, marginRight: "6px" }
    : { left: `${left * 100}%`, marginLeft: "8px" })
    : { left: `${right * 100}%`, marginLeft: point ? "10px" : "6px" };
  const retry = future ? scale.x(ms(about.next_retry_at) ?? scale.end) : 0;
  return html`<div class="axis" aria-hidden="true">
    ${scale.ticks.map((tick) => html`<i class="grid" style=${{ left: `${tick.at * 100}%` }}></i>`)}
    ${point
      ? html`<i class="dot b-${kind}" style=${{ left: `${left * 100}%` }}></i>`
      : html`<i class="bar b-${kind}" style=${{ left: `${left * 100}%`, width: `${wide * 100}%` }}></i>`}
    ${future && retry > right && html`<i class="bar b-future"
      style=${{ left: `${right * 100}%`, width: `${(retry - right) * 100}%` }}></i>`}
    ${label && html`<span class="took num ${right > 0.8 && left <= 0.16 ? "over" : ""}"
      style=${side}>${label}</span>`}
  </div>`;
}
