// Runs by the text in them: newest first, as far back as somebody wants to look.
import { html, useEffect, useRef, useState } from "../html.js";
import { get } from "../api.js";
import { NotForYou, seesPayloads } from "../me.js";
import { href, route, setQuery } from "../router.js";
import { ago, count, ms, plural, short, stamp } from "../format.js";
import { Status } from "../parts/status.js";
import { Pick, useServices } from "../parts/pick.js";

const PLACES = [["input", "Input"], ["output", "Output"], ["answer", "Model’s answers"],
  ["told", "Told to models"], ["result", "Results of steps"]];
const WORDS = Object.fromEntries(PLACES);

export function SearchPage() {
  const { query } = route.value;
  const text = query.get("q") ?? "", places = query.getAll("in"), service = query.get("service") ?? "";
  const services = useServices();
  const box = useRef(null);
  useEffect(() => {
    document.title = `${text ? `“${text}”` : "Search"} · agentdur`;
    if (!text) box.current?.focus();
  }, [text]);
  const submit = (event) => {
    event.preventDefault();
    setQuery({ q: String(new FormData(event.target).get("q") ?? "").trim() }, { replace: false });
  };
  const flip = (name) => () => {
    const now = places.length ? places : PLACES.map(([one]) => one);
    const next = now.includes(name) ? now.filter((one) => one !== name) : [...now, name];
    setQuery({ in: next.length === PLACES.length ? [] : next });
  };
  if (!seesPayloads()) return html`<div class="stack"><div class="head"><h1>Search</h1></div>
    <${NotForYou} title="Nothing to look through">It looks into what runs were given and gave, which your role
      may not see. <a href=${href("/invocations")}>Invocations</a> are found by service, key and status.
    <//></div>`;
  return html`<div class="stack">
    <div class="head"><h1>Search</h1></div>
    <form class="row" role="search" onSubmit=${submit}>
      <input ref=${box} class="grow" type="search" name="q" data-filter key=${text} defaultValue=${text}
        maxlength="200" placeholder="A word, an order number, a line of an error" aria-label="Text" />
      <${Pick} label="Service" all="all services" value=${service} options=${services.map((one) => one.name)}
        onPick=${(one) => setQuery({ service: one })} />
      <button class="primary">Search</button></form>
    <div class="chips" role="group" aria-label="Where">${PLACES.map(([name, words]) =>
      html`<button key=${name} class="chip" aria-pressed=${String(!places.length || places.includes(name))}
        onClick=${flip(name)}>${words}</button>`)}</div>
    ${text ? html`<${Findings} key=${query.toString()} text=${text} places=${places} service=${service} />` :
      html`<div class="card empty"><b>In what runs were given, what they answered, what their models said</b>
        The newest runs are looked through first. The case of letters does not matter.</div>`}
  </div>`;
}

/**
 * @typedef {{runs: Api.Found["runs"], looked: number, back: string | null, after: number | null,
 *   cut: string | null}} Looked
 */

function Findings({ text, places, service }) {
  const [found, setFound] = useState(/** @type {Looked} */ ({ runs: [], looked: 0, back: null,
    after: null, cut: null }));
  const [busy, setBusy] = useState(true);
  const [failed, setFailed] = useState("");
  const gone = useRef(false);
  const look = async (before) => {
    setBusy(true);
    const asked = new URLSearchParams({ q: text });
    for (const one of places) asked.append("in", one);
    if (service) asked.set("service", service);
    if (before?.after != null) asked.set("after", String(before.after));
    try {
      const page = await get(`/search?${asked}`);
      if (gone.current) return;
      setFound({ runs: [...(before?.runs ?? []), ...page.runs], after: page.after, cut: page.cut,
        looked: (before?.looked ?? 0) + page.looked_at, back: page.back_to ?? before?.back ?? null });
      setFailed("");
    } catch (error) {
      if (!gone.current) setFailed(error.message);
    }
    if (!gone.current) setBusy(false);
  };
  useEffect(() => {
    look(null);
    return () => (gone.current = true);
  }, []);
  const { runs, after, cut, looked, back } = found;
  const slow = cut === "time" && (!places.length || places.includes("told"));
  return html`
    ${failed && html`<p class="note failed" role="alert">${failed}</p>`}
    ${runs.length > 0 && html`<ul class="card findings" aria-label="Runs">${runs.map((one) =>
      html`<${Found} key=${one.run.id} ...${one} text=${text} />`)}</ul>`}
    ${!busy && !failed && !runs.length && after == null &&
      html`<div class="card empty"><b>No run has it</b>Journals are kept for their retention only.</div>`}
    <div class="row" role="status"><span class="soft">${busy ? "Looking…" :
      html`${plural(runs.length, "run")} found in ${count(looked)}${back && html`, back to${" "}
        <span title=${stamp(ms(back))}>${ago(ms(back))}</span>`}${after == null ? ": that is all there are." :
        "."}`}</span>
      ${!busy && after != null && html`<button onClick=${() => look(found)}>Look further back</button>`}</div>
    ${!busy && slow && html`<p class="small soft">What models were told takes the longest to look through:
      <button class="plain" onClick=${() => setQuery({ in: (places.length ? places :
        PLACES.map(([one]) => one)).filter((one) => one !== "told") })}>leave it out</button></p>`}`;
}

function Found({ run, found, text }) {
  return html`<li><div class="row">
      <a class="rowlink mono" href=${href(`/invocations/${run.id}`)}>${run.target}</a>
      <span class="small soft mono">${short(run.id)}</span><span class="grow"></span>
      <${Status} run=${run} />
      <span class="small soft num" title=${stamp(ms(run.created_at))}>${ago(ms(run.created_at))}</span></div>
    ${found.map((spot) => html`<p key=${spot.in} class="small spot">
      <span class="tag">${WORDS[spot.in]}${spot.count > 1 ? ` × ${spot.count}` : ""}</span>${" "}
      <${Excerpt} text=${spot.excerpt} needle=${text} /></p>`)}</li>`;
}

/** The words around it, and itself marked where it is spelled as it was typed. */
function Excerpt({ text, needle }) {
  const at = text.toLowerCase().indexOf(needle.toLowerCase());
  if (at < 0) return html`<q class="mono">${text}</q>`;
  return html`<q class="mono">${text.slice(0, at)}<mark>${text.slice(at, at + needle.length)}</mark>${
    text.slice(at + needle.length)}</q>`;
}
