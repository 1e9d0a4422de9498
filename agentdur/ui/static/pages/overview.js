// What is going on, what it costs, and what needs somebody.
import { html, useEffect, useState } from "../html.js";
import { get, poll, seg, sql } from "../api.js";
import { href, route, setQuery } from "../router.js";
import { ago, count, money, ms, plural } from "../format.js";
import { STATUSES, Status, word } from "../parts/status.js";
import { Columns } from "../parts/chart.js";
import { aboutRun } from "./runs.js";

const WINDOWS = { "1h": ["1 hour", 60, "last hour"], "1d": ["24 hours", 1800, "last day"],
  "7d": ["7 days", 10800, "last week"] };
const OURS = "NOT starts_with(target_service_name, 'agentdur.')";

export function OverviewPage() {
  const span = route.value.query.get("window") ?? "1d";
  const [length, bucket] = WINDOWS[span] ?? WINDOWS["1d"];
  const [data, setData] = useState(null);
  const [failed, setFailed] = useState("");
  useEffect(() => {
    document.title = "Overview · agentdur";
    return poll(5, async () => {
      try {
        setData(await load(length, bucket));
        setFailed("");
      } catch (error) {
        setFailed(error.message);
      }
    });
  }, [span]);
  return html`<div class="stack">
    <div class="head"><h1>Overview</h1><span class="grow"></span>
      <div class="segments" role="group"
      aria-label="Window">${Object.entries(WINDOWS).map(([name, [, , text]]) =>
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
          ["failure", "failed"]]} bucket=${bucket} label="Invocations that ended, over time" /></div>
          </section>
        <section class="card"><header><h2>Spend</h2><span class="grow"></span>
          <span class="small soft num">${money(data.spend.cost) ||
          "$0"} · ${count(data.spend.tokens)} tokens · ${plural(data.spend.calls, "model call")}</span>
          </header><div class="pad"><${Columns} data=${data.cost} parts=${[["cost",
          "llm"]]} bucket=${bucket} label="Spend over time" show=${money} /></div></section>
      </div>
      <div class="cols wide">
        <${Spend} title="By service" rows=${data.byService} link=${(row) =>
          `/invocations?service=${seg(row.name)}`} />
        <${Spend} title="By model" rows=${data.byModel} />
        <${Spend} title="By session" rows=${data.bySession} link=${(row) =>
          `/sessions/${seg(row.service)}/${seg(row.key)}`} />
        <${Spend} title="Dearest runs" rows=${data.dearest} link=${(row) => `/invocations/${row.id}`} />
      </div>
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

const SUMS = `SUM(cost) AS cost, SUM(input_tokens) AS tin, SUM(output_tokens) AS tout,
  COUNT(*) AS calls`;
const DEAREST = "ORDER BY cost DESC NULLS LAST LIMIT 6";

async function load(length, bucket) {
  const at = (column) =>
    `to_unixtime(date_bin(INTERVAL '${bucket} seconds', ${column}, TIMESTAMP '1970-01-01T00:00:00'))`;
  const spent = `FROM llm_calls WHERE at > now() - INTERVAL '${length}'`;
  const [now, rate, cost, service, session, dear, models, broken, lost] = await Promise.all([
    sql(`SELECT status, COUNT(*) AS n
      FROM sys_invocation
      WHERE status <> 'completed' AND ${OURS}
      GROUP BY status`),
    sql(`SELECT ${at("completed_at")} AS t, completion_result AS r, COUNT(*) AS n
      FROM sys_invocation_status
      WHERE status = 'completed' AND completed_at > now() - INTERVAL '${length}' AND ${OURS}
      GROUP BY 1, 2`),
    sql(`SELECT ${at("at")} AS t, ${SUMS} ${spent} GROUP BY 1`),
    sql(`SELECT target_service_name AS name, ${SUMS} ${spent} GROUP BY target_service_name ${DEAREST}`),
    sql(`SELECT target_service_name AS service, target_service_key AS key, ${SUMS} ${spent}
      AND target_handler_name = 'turn' AND target_service_key IS NOT NULL
      GROUP BY target_service_name, target_service_key ${DEAREST}`),
    sql(`SELECT invocation_id AS id, MIN(target_service_name) AS service, MIN(target_service_key) AS key,
      MIN(target_handler_name) AS handler, ${SUMS} ${spent}
      GROUP BY invocation_id ${DEAREST}`),
    sql(`SELECT model AS name, ${SUMS} ${spent} GROUP BY model ${DEAREST}`),
    get("/invocations?status=backing-off&status=paused&limit=15"),
    get("/invocations?status=failed&limit=8"),
  ]);
  const tokens = (row) => (row.tin ?? 0) + (row.tout ?? 0);
  const named = (rows) => rows.map((row) => ({ ...row, tokens: tokens(row) }));
  const ended = { success: 0, failure: 0 };
  const byTime = new Map();
  for (const row of rate) {
    ended[row.r] = (ended[row.r] ?? 0) + row.n;
    byTime.set(row.t, { ...byTime.get(row.t), t: row.t, [row.r]: row.n });
  }
  const sum = (pick) => cost.reduce((all, row) => all + pick(row), 0);
  return {
    now: Object.fromEntries(now.map((row) => [row.status, row.n])),
    ended,
    rate: [...byTime.values()],
    cost: cost.map((row) => ({ t: row.t, cost: row.cost ?? 0 })),
    spend: { cost: sum((row) => row.cost ?? 0), tokens: sum(tokens), calls: sum((row) => row.calls ?? 0) },
    byService: named(service),
    byModel: named(models),
    bySession: named(session).map((row) => ({ ...row, name: `${row.service} / ${row.key}` })),
    dearest: named(dear).map((row) => ({ ...row, name: targetOf(row) })),
    trouble: [...broken.invocations, ...lost.invocations],
  };
}

const targetOf = (row) => [row.service, row.key, row.handler].filter(Boolean).join("/");
