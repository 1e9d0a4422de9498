// The journal beside a time axis. Rows come in groups that are drawn when they come near the window.
import { Component, html, useEffect, useMemo, useRef, useState } from "../html.js";
import { now, ms, span } from "../format.js";
import { ended } from "./status.js";
import { Step } from "./step.js";
import { scaleOf } from "./scale.js";

const GROUP = 50;
const ROW_PX = 34;

/** What everything on one page shares: the scale, what is open, and what is shown. */
export function Timeline({ run, about, version }) {
  const [all, setAll] = useState(false);
  const [fold, setFold] = useState(true);
  const [needle, setNeedle] = useState("");
  const [zoom, setZoom] = useState(/** @type {[number, number] | null} */ (null));
  const { journal } = run;
  const over = ended(about);
  const begin = ms(about.created_at) ?? journal.first ?? now.value;
  const retry = ms(about.next_retry_at);
  const end = over ? ms(about.completed_at) ?? journal.latest :
    Math.max(now.value, journal.latest ?? 0, retry ?? 0) + 1;
  const steps = useMemo(() => chosen(journal.steps, all, needle), [version, all, needle]);
  const scale = useMemo(() => {
    const points = journal.steps.flatMap((s) =>
      (s.end && s.end !== s.at ? [s.at, s.end] : [s.at])).sort((a, b) => a - b);
    if (!over && retry && now.value < retry) points.push(now.value);
    return zoom ? scaleOf(zoom[0], zoom[1], points, false) :
      scaleOf(begin, Math.max(end, begin + 1), points, fold);
  }, [version, begin, end, fold, zoom]);
  const plumbing = journal.steps.length - chosen(journal.steps, false, "").length;
  return html`<section class="card timeline" aria-label="Journal">
    <header>
      <h2>Journal</h2>
      <span class="soft small num">${journal.steps.length} steps, ${journal.last + 1} entries</span>
      <span class="grow"></span>
      <input type="search" data-filter placeholder="Filter steps" aria-label="Filter steps" value=${needle}
        onInput=${(e) => setNeedle(e.target.value)} />
      ${zoom && html`<button class="plain" onClick=${() => setZoom(null)}>whole run</button>`}
      ${scale.folds || !fold ? html`<button class="chip" aria-pressed=${String(fold)}
        onClick=${() => setFold(!fold)} title="Long waits take little room">fold waits</button>` : null}
      ${plumbing > 0 && html`<button class="chip" aria-pressed=${String(all)} onClick=${() => setAll(!all)}
        title="What agents and approvals do behind the scenes">all entries</button>`}
    </header>
    <${Scrubber} scale=${scale} steps=${journal.steps} onZoom=${(a, b) => setZoom([a, b])} stamp=${version} />
    <div class="rows" role="list" aria-label="Steps">
      ${groups(steps).map((group, i) => html`<${Group} key=${i} steps=${group} stamp=${stampOf(group)}
        scale=${scale} about=${about} run=${run} depth=${0} eager=${i < 2} />`)}
      ${!steps.length && html`<p class="empty">${needle ? "No step fits the filter." :
        "Nothing has happened yet."}</p>`}
    </div>
  </section>`;
}

export function chosen(steps, all, needle) {
  let found = all ? steps : steps.filter((s) => !s.plumbing);
  if (needle) {
    const wanted = needle.toLowerCase();
    found = found.filter((s) => `${s.type} ${s.name} ${s.row.service ?? ""} ${s.row.handler ??
      ""} ${s.row.key ?? ""} ${s.state} ${s.failure?.message ??
      ""} ${JSON.stringify(s.value ?? "")}`.toLowerCase().includes(wanted));
  }
  return found;
}

export function groups(steps) {
  const out = [];
  for (let i = 0; i < steps.length; i += GROUP) out.push(steps.slice(i, i + GROUP));
  return out;
}

export const stampOf = (group) => group.reduce((most, s) => Math.max(most, s.rev), 0) + group.length * 1e-4;

/** Rows that are drawn only near the window; of the others just the height is kept. */
export class Group extends Component {
  constructor(props) {
    super(props);
    this.state = { near: props.eager };
    this.placed = (box) => (this.box = box);
  }
  componentDidMount() {
        this.watch = new IntersectionObserver(
      ([entry]) => entry.isIntersecting && !this.state.near &&
        this.setState({ near: true }), { rootMargin: "800px" });
    this.watch.observe(this.box);
  }
  componentWillUnmount() {
    this.watch?.disconnect();
  }
  shouldComponentUpdate(next, state) {
    const mine = this.props;
    return next.stamp !== mine.stamp || next.scale !== mine.scale || next.about !== mine.about ||
      state.near !== this.state.near || next.steps.length !== mine.steps.length ||
      next.steps[0] !== mine.steps[0];
  }
  render({ steps, scale, about, run, depth }, { near }) {
    return html`<div class="group" ref=${this.placed}
      style=${near ? null : { height: `${steps.length * ROW_PX}px` }}>
      ${near && steps.map((step) => html`<${Step} key=${step.index} step=${step} stamp=${step.rev}
        scale=${scale} about=${about} run=${run} depth=${depth} />`)}
    </div>`;
  }
}

/** The whole run in a few pixels; a drag over it looks closer. */
function Scrubber({ scale, steps, onZoom, stamp }) {
  const ref = useRef(null);
  const [drag, setDrag] = useState(/** @type {[number, number] | null} */ (null));
  const marks = useMemo(() => density(scale, steps), [stamp, scale]);
  const share = (event) => {
    const box = ref.current.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  useEffect(() => {
    if (!drag) return undefined;
    const move = (event) => setDrag([drag[0], share(event)]);
    const up = (event) => {
      const [a, b] = [drag[0], share(event)].sort((p, q) => p - q);
      setDrag(null);
      if (b - a > 0.01 && !scale.folds) onZoom(scale.begin + a * scale.total, scale.begin + b * scale.total);
      else if (b - a > 0.01) onZoom(invert(scale, a), invert(scale, b));
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", up, { once: true });
    return () => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", up);
    };
  }, [drag]);
  return html`<div class="scrub" aria-hidden="true">
    <div class="scrub-label soft small num">${span(scale.total)}</div>
    <div class="axis" ref=${ref} onPointerDown=${(e) =>
      setDrag([share(e), share(e)])} title="Drag to look closer">
      <svg viewBox="0 0 1000 18" preserveAspectRatio="none">
        ${marks.map(([x, w, kind]) => html`<rect class=${`mark-${kind}`} x=${x * 1000}
          width=${Math.max(2, w * 1000)} y="4" height="10" />`)}
      </svg>
      ${scale.gaps.map((gap) => html`<span class="gap" style=${{ left: `${gap.start * 100}%`,
        width: `${gap.width * 100}%` }}>${span(gap.to - gap.from)}</span>`)}
      ${scale.ticks.map((tick) => html`<span class="tick" style=${{ left: `${tick.at * 100}%` }}>${tick.text}
        </span>`)}
      ${drag && html`<span class="brush"
        style=${{ left: `${Math.min(...drag) * 100}%`, width: `${Math.abs(drag[1] - drag[0]) * 100}%` }}>
        </span>`}
    </div>
  </div>`;
}

function invert(scale, share) {
  let low = scale.begin, high = scale.end;
  for (let i = 0; i < 40; i++) {
    const mid = (low + high) / 2;
    if (scale.x(mid) < share) low = mid;
    else high = mid;
  }
  return low;
}

/** At most some hundred marks, however many steps there are. */
function density(scale, steps) {
  const cells = new Map();
  for (const s of steps) {
    const x = scale.x(s.at), w = scale.x(s.end ?? scale.end) - x;
    const kind = s.state === "failed" ? "failed" : s.type === "llm" ? "llm" : s.type === "tool" ? "tool" :
      "other";
    const cell = `${Math.round(x * 300)}.${kind}`;
    const known = cells.get(cell);
    if (!known || known[1] < w) cells.set(cell, [x, s.state === "open" ? 0 : w, kind]);
  }
  return [...cells.values()];
}
