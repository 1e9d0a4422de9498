// What is going on, what it costs, and what needs somebody.
import { html, useEffect, useState } from "../html.js";
import { get, poll, seg } from "../api.js";
import { href, route, setQuery } from "../router.js";
import { ago, count, money, ms, plural } from "../format.js";
import { STATUSES, Status, word } from "../parts/status.js";
import { Budgets } from "../parts/budgets.js";
import { Columns } from "../parts/chart.js";
import { aboutRun } from "./runs.js";

const WINDOWS = { "1h": "last hour", "1d": "last day", "7d": "last week",
  "30d": "last 30 days" };

export function OverviewPage() {
  const asked = route.value.query.get("window") ?? "", span = asked in WINDOWS ? asked : "1d";
  const [data, setData] = useState(/** @type {Awaited<ReturnType<typeof load>> | null} */ (null));
  const [failed, setFailed] = useState("");
  useEffect(() => {
    document.title = "Overview · agentdur";
    return poll(5, async () => {
      try {
        setData(await load(span));
        setFailed("");
      } catch (error) {
        setFailed(error.message);
      }
    });
  }, [span]);
  return html`<div class="stack">
    <div class="head"><h1>Overview</h1><span class="grow"></span>
      <div class="segments" role="group"
      aria-label="Window">${Object.entries(WINDOWS).map(([name, text]) =>
      html`<button key=${name} aria-pressed=${String(name === span)}
      onClick=${() => setQuery({ window: name })}>${text}</button>`)}</div></div>
    ${failed && html`<p class="note failed" role="alert">${failed}</p>`}
    ${!data ? !failed && html`<p class="soft">…</p>` : html`
      <${Gauges} now=${data.now} ended=${data.ended} />
      <div class="cols wide">
        <section class="card"><header><h2>Ended</h2><span class="grow"></span>
          <span class="small soft num">
          ${count(data.ended.success)} well, ${count(data.ended.failure)} failed</span></header>
          <div class="pad"><${Columns} data=${data.rate} parts=${[["success", "ok"],
          ["failure", "failed"]]} bucket=${data.bucket} label="Invocations that ended, over time" /></div>
          </section>
        <section class="card"><header><h2>Spend</h2><span class="grow"></span>
          <span class="small soft num">${money(data.spend.cost) ||
          "$0"} · ${count(data.spend.tokens)} tokens · ${plural(data.spend.calls, "model call")}</span>
          </header><div class="pad"><${Columns} data=${data.cost} parts=${[["cost",
          "llm"]]} bucket=${data.bucket} label="Spend over time" show=${money} /></div></section>
      </div>
      <div class="cols wide">
        <${Spend} title="By agent" rows=${data.byAgent} />
        <${Spend} title="By service" rows=${data.byService} link=${(row) =>
          `/invocations?service=${seg(row.name)}`} />
        <${Spend} title="By model" rows=${data.byModel} />
        <${Spend} title="By session" rows=${data.bySession} link=${(row) =>
          `/sessions/${seg(row.service)}/${seg(row.key)}`} />
        <${Spend} title="Dearest runs" rows=${data.dearest} link=${(row) => `/invocations/${row.id}`} />
      </div>
      ${data.budgets.length > 0 && html`<section class="card"><header><h2>Budgets</h2></header>
        <div class="pad"><${Budgets} all=${data.budgets} /></div></section>`}
      <section class="card"><header><h2>Needs a look</h2></header>${data.trouble.length
        ? html`<div class="scroll"><table class="table stacks"><tbody>${data.trouble.map((one) =>
          html`<tr key=${one.id}><td><${Status} run=${one} /></td>
          <td class="main"><a class="rowlink mono" href=${href(`/invocations/${one.id}`)}>${one.target}</a>
          </td><td class="about small">${aboutRun(one)}</td>
          <td class="right nowrap soft">${ago(ms(one.modified_at))}</td></tr>`)}</tbody></table></div>`
        : html`<p class="pad soft">Nothing retries, is paused, or failed lately.</p>`}</section>`}
  </div>`;
}

function Gauges({ now, ended }) {
  const all = { ...now, succeeded: ended.success, failed: ended.failure };
  return html`<div class="gauges">${STATUSES.map((name) => html`<a key=${name}
    class="gauge is-${name} ${all[name] ? "" : "none"}"
    href=${href(`/invocations?status=${name}`)}><b class="num">${count(all[name] ?? 0)}</b>
    <span>${word(name)}</span></a>`)}</div>`;
}

function Spend({ title, rows, link }) {
  const most = Math.max(...rows.map((row) => row.cost ?? 0), 1e-12);
  return html`<section class="card"><header><h2>${title}</h2></header>
    <div class="pad stack tight">${rows.length
    ? rows.map((row) => html`<div class="spend" key=${row.id ?? row.name}>
      <div class="row"><span class="grow name mono">${link ? html`<a href=${href(link(row))}>${row.name}</a>`
      : row.name}</span><span class="small soft num nowrap">${count(row.tokens)} tokens</span>
      <b class="num">${money(row.cost ?? 0)}</b></div>
      <div class="meter" aria-hidden="true"><i style=${{ width: `${(100 * (row.cost ?? 0)) / most}%` }}></i>
      </div></div>`)
    : html`<p class="soft">No model was asked.</p>`}</div></section>`;
}

async function load(span) {
  const [sums, broken, lost, left] = await Promise.all([
    get(`/overview?window=${span}`),
    get("/invocations?status=backing-off&status=paused&limit=15"),
    get("/invocations?status=failed&limit=8"),
    get("/budgets?limit=12"),
  ]);
  const timed = (rows) => rows.map((row) => ({ ...row, t: ms(row.at) / 1000 }));
  const add = (rows, name) => rows.reduce((all, row) => all + (row[name] ?? 0), 0);
  return {
    now: sums.statuses, bucket: sums.bucket_seconds,
    ended: { success: add(sums.ended, "success"), failure: add(sums.ended, "failure") },
    rate: timed(sums.ended),
    cost: timed(sums.spend),
    spend: { cost: add(sums.spend, "cost"), tokens: add(sums.spend, "tokens"),
      calls: add(sums.spend, "calls") },
    byAgent: sums.by_agent.map((row) => ({ ...row, name: row.agent || "steps of handlers" })),
    byService: sums.by_service.map((row) => ({ ...row, name: row.service })),
    byModel: sums.by_model.map((row) => ({ ...row, name: row.model })),
    bySession: sums.by_session.map((row) => ({ ...row, name: `${row.service} / ${row.key}` })),
    dearest: sums.by_invocation.map((row) => ({ ...row, name: row.target })),
    budgets: left.budgets,
    trouble: [...broken.invocations, ...lost.invocations],
  };
}
