// Two runs side by side: rows aligned, what differs marked, and what each took and cost.
import { html, useEffect, useMemo, useState } from "../html.js";
import { href, route, setQuery } from "../router.js";
import { count, line, money, ms, plural, short, span } from "../format.js";
import { Status, ended } from "../parts/status.js";
import { chosen } from "../parts/timeline.js";
import { align, same } from "../parts/align.js";
import { words } from "../parts/journal.js";
import { answerLine, verdictLine } from "../parts/step.js";
import { asText } from "../parts/value.js";
import { Diff } from "../parts/diff.js";
import { Edits } from "../parts/fork.js";
import { Run } from "../live.js";

const SECONDS = 1.5;

export function ComparePage() {
  const { query } = route.value;
  const a = query.get("a") ?? "", b = query.get("b") ?? "";
  if (!a || !b) return html`<${Choose} a=${a} b=${b} />`;
  return html`<${Both} key=${`${a}/${b}`} a=${a} b=${b} />`;
}

function Choose({ a, b }) {
  const [left, setLeft] = useState(a), [right, setRight] = useState(b);
  return html`<form class="stack" onSubmit=${(e) => (e.preventDefault(),
    setQuery({ a: left.trim(), b: right.trim() }))}><h1>Compare two runs</h1>
    <label class="field">One<input required value=${left} onInput=${(e) =>
      setLeft(e.target.value)} placeholder="inv_…" /></label>
    <label class="field">Other<input required value=${right} onInput=${(e) =>
      setRight(e.target.value)} placeholder="inv_…" /></label>
    <p><button class="primary">Compare</button></p></form>`;
}

function useRun(id) {
  const run = useMemo(() => new Run(id), [id]);
  useEffect(() => run.keep(SECONDS), [run]);
  return run;
}

function Both({ a, b }) {
  const one = useRun(a), other = useRun(b);
  const [only, setOnly] = useState(false);
  const left = one.about.value, right = other.about.value, versions = one.version.value + other.version.value;
  useEffect(() => {
    document.title = "Compare · agentdur";
  }, []);
  const rows = useMemo(() => align(chosen(one.journal.steps, false, ""),
    chosen(other.journal.steps, false, "")), [versions]);
  const wrong = one.error.value ?? other.error.value;
  if (!left || !right) return html`<p class="soft">${wrong ? wrong.message : "…"}</p>`;
  const differ = rows.filter(([x, y]) => !same(x, y));
  const shown = only ? differ : rows;
  return html`<div class="stack">
    <div class="head"><h1 class="grow">Compare</h1><button onClick=${() =>
      setQuery({ a: b, b: a })}>Swap</button>
      <button class="chip" aria-pressed=${String(only)} onClick=${() =>
      setOnly(!only)}>only differences</button></div>
    <div class="pair"><${Side} run=${one} about=${left} />
      <${Side} run=${other} about=${right} against=${one} /></div>
    <${Edits} journal=${other.journal} over=${ended(right)} version=${versions} />
    <p class="soft">${differ.length ? `${differ.length} of ${rows.length} rows differ.` :
      "Nothing differs."}</p>
    <div class="card compare" role="list"
      aria-label="Steps of both">${shown.map(([x, y], i) =>
      html`<${PairRow} key=${i} left=${x} right=${y} stamp=${`${x?.rev} ${y?.rev}`} />`)}</div>
  </div>`;
}

const took = (/** @type {Api.Run} */ about) => (ms(about.completed_at) ?? Date.now()) -
  ms(about.created_at);

/** @param {{run: Run, about: Api.Run, against?: Run}} props */
function Side({ run, about, against }) {
  const { sums } = run.journal, base = against?.journal.sums;
  const delta = against?.about.value ? took(about) - took(against.about.value) : null;
  return html`<article class="card pad stack tight"><div class="row">
    <a class="mono" href=${href(`/invocations/${about.id}`)}>${short(about.id)}</a><${Status} run=${about} />
    </div>
    <p><b>${about.target}</b></p>
    <p class="small num">${span(took(about))}${delta != null &&
      html` <span class=${delta > 0 ? "warn" : "good-text"}>(${delta > 0 ? "+" :
      "−"}${span(Math.abs(delta))})</span>`}
      ${sums.calls > 0 && html` · ${plural(sums.calls, "model call")} · ${count(sums.prompt +
        sums.completion)} tokens${sums.cost != null ? ` · ${money(sums.cost)}` : ""}`}
      ${base?.cost != null && sums.cost != null &&
        html` <span class=${sums.cost > base.cost ? "warn" : "good-text"}>(${sums.cost > base.cost ? "+" :
        "−"}${money(Math.abs(sums.cost - base.cost))})</span>`}</p></article>`;
}

function PairRow({ left, right }) {
  const [open, setOpen] = useState(false);
  const equal = same(left, right);
  return html`<div role="listitem" class="pairrow ${equal ? "" : "differs"}">
    <button class="pairline" aria-expanded=${String(open)} onClick=${() => setOpen(!open)}>
      <${Cell} step=${left} /><span class="mark" aria-hidden="true">${!left ? "+" : !right
        ? "−" : equal ? "" : "≠"}</span><${Cell} step=${right} />
      <span class="hidden">${equal ? "equal" : "differs"}</span></button>
    ${open && html`<div class="pad"><${Diff} left=${asText(content(left))} right=${asText(content(right))} />
      </div>`}
  </div>`;
}

const content = (step) => (!step ? "" : step.failure ? { failure: step.failure } : step.type === "llm" ?
  step.value?.message ?? step.value : step.value ?? step.given ?? "");

function brief(step) {
  if (step.failure) return step.failure.message;
  if (step.type === "llm" && step.meta) return answerLine(step);
  if (step.type === "approval") return verdictLine(step);
  return line(step.type === "tool" ? step.value?.content ?? step.value : content(step), 120);
}

function Cell({ step }) {
  if (!step) return html`<span class="cell soft">–</span>`;
  const [verb, what] = words(step);
  return html`<span class="cell"><b class="v-${step.type}">${verb}</b> ${what} ${step.meta?.edited &&
    html`<span class="tag">edited</span> `}<span class="soft">${brief(step)}</span></span>`;
}
