// Questions in SQL, for what no page shows.
import { html, useEffect, useState } from "../html.js";
import { sql } from "../api.js";
import { NotForYou, asksSql } from "../me.js";
import { href, route, setQuery } from "../router.js";
import { line, plural } from "../format.js";

const EXAMPLES = [
  ["Newest runs", `SELECT id, target, status, created_at FROM sys_invocation
ORDER BY created_at DESC LIMIT 20`],
  ["What waits", `SELECT id, target, waiting_on, modified_at FROM sys_invocation
WHERE status IN ('suspended', 'running') LIMIT 50`],
  ["Spend by service", `SELECT target_service_name, COUNT(*) AS runs,
  SUM(llm_calls) AS calls, SUM(cost) AS cost
FROM sys_invocation GROUP BY target_service_name
ORDER BY cost DESC NULLS LAST`],
  ["Errors lately", `SELECT id, target, completion_failure, completed_at FROM sys_invocation
WHERE completion_result = 'failure' AND completed_at > now() - INTERVAL '1 day' LIMIT 50`],
  ["State", `SELECT service_name, service_key, key, value_utf8 FROM state
WHERE NOT starts_with(service_name, 'agentdur.') LIMIT 50`],
  ["Columns", `SELECT table_name, column_name, data_type FROM information_schema.columns
ORDER BY table_name LIMIT 500`],
];
const PAST = "agentdur.sql", MOST = 20;
/** Of a number with a fraction: the last ones are what adding up in binary leaves. */
const DIGITS = 12;

const past = () => {
  try {
    return JSON.parse(localStorage.getItem(PAST) ?? "[]").filter((one) => typeof one === "string");
  } catch {
    return [];
  }
};

export function SqlPage() {
  const asked = route.value.query.get("q") ?? EXAMPLES[0][1];
  const [text, setText] = useState(asked);
  const [answer, setAnswer] = useState(/** @type {{rows: any[], took: number} | null} */ (null));
  const [failed, setFailed] = useState("");
  const [busy, setBusy] = useState(false);
  const run = async (query) => {
    setBusy(true);
    setFailed("");
    const began = performance.now();
    try {
      const rows = await sql(query);
      setAnswer({ rows, took: performance.now() - began });
      localStorage.setItem(PAST, JSON.stringify([query, ...past().filter((one) => one !== query)].slice(0,
        MOST)));
    } catch (error) {
      setAnswer(null);
      setFailed(error.message);
    }
    setBusy(false);
  };
  useEffect(() => {
    document.title = "SQL · agentdur";
    if (route.value.query.get("q") && asksSql()) run(asked);
  }, []);
  const submit = (event) => {
    event?.preventDefault();
    setQuery({ q: text });
    run(text);
  };
  const pick = (query) => {
    setText(query);
    setQuery({ q: query });
    run(query);
  };
  const keys = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
  };
  if (!asksSql()) return html`<div class="stack"><div class="head"><h1>SQL</h1></div>
    <${NotForYou} title="SQL is not for your role">It shows everything there is, so it asks for a role of its
      own. <a href=${href("/")}>The overview</a> and <a href=${href("/objects")}>objects</a> say what most
      questions are about.<//></div>`;
  const kept = past();
  return html`<div class="stack"><div class="head"><h1>SQL</h1></div>
    <form class="card pad stack tight" onSubmit=${submit}>
      <label class="hidden" for="sql">Query</label>
      <textarea id="sql" data-filter rows="6" spellcheck="false" value=${text} onInput=${(e) =>
        setText(e.target.value)} onKeyDown=${keys}></textarea>
      <div class="row"><button class="primary" disabled=${busy}>Run</button>
        <span class="small soft"><kbd>Ctrl</kbd>+<kbd>Enter</kbd></span><span class="grow"></span>
        ${kept.length > 0 && html`<select aria-label="Asked before" value=""
          onChange=${(e) => e.target.value && pick(e.target.value)}><option value="">asked before</option>
          ${kept.map((one) => html`<option value=${one}>${one.replaceAll(/\s+/g, " ").slice(0, 70)}
          </option>`)}</select>`}</div>
      <div class="chips" role="group" aria-label="Examples">${EXAMPLES.map(([name, query]) =>
        html`<button type="button" class="chip" key=${name}
        onClick=${() => pick(query)}>${name}</button>`)}</div>
    </form>
    ${failed && html`<p class="note failed mono" role="alert">${failed}</p>`}
    ${answer && html`<${Answer} ...${answer} />`}
  </div>`;
}

function Answer({ rows, took }) {
  const [most, setMost] = useState(200);
  const names = [...new Set(rows.slice(0, 500).flatMap((row) => Object.keys(row)))];
  const save = () => {
    const url = URL.createObjectURL(new Blob([JSON.stringify(rows, null, 2)], { type: "application/json" }));
    Object.assign(document.createElement("a"), { href: url, download: "rows.json" }).click();
    URL.revokeObjectURL(url);
  };
  return html`<section class="card"><header><h2>${plural(rows.length, "row")}</h2>
    <span class="small soft num">${Math.round(took)} ms</span><span class="grow"></span>${rows.length > 0 &&
    html`<button onClick=${save}>Save as JSON</button>`}</header>
    ${rows.length > 0 && html`<div class="scroll" tabindex="0" role="group"
      aria-label="Rows"><table class="table sqltable"><thead><tr>${names.map((name) =>
      html`<th key=${name}>${name}</th>`)}</tr></thead>
      <tbody>${rows.slice(0, most).map((row, i) =>
        html`<tr key=${i}>${names.map((name) => html`<td key=${name}><${Cell} value=${row[name]} /></td>`)}
        </tr>`)}</tbody></table></div>`}
    ${rows.length > most && html`<p class="pad"><button onClick=${() =>
      setMost(most + 1000)}>Show more</button></p>`}</section>`;
}

function Cell({ value }) {
  if (value === undefined || value === null) return html`<span class="soft">·</span>`;
  if (typeof value === "string" && /^inv_\w{20,}$/.test(value)) return html`<a class="mono nowrap"
    href=${href(`/invocations/${value}`)}>${value}</a>`;
  if (typeof value === "number") return html`<span class="num" title=${value}>${
    Number.isInteger(value) ? value : Number(value.toPrecision(DIGITS))}</span>`;
  return html`<span class="mono" title=${typeof value === "string" && value.length > 160 ?
    value.slice(0, 2000) : ""}>${typeof value === "string" ? value.slice(0, 160) : line(value)}</span>`;
}
